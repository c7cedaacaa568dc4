// kubernetescheck FILE: whether each document is an object of Kubernetes, by the types of its own API: fields that it does not know, or of
// another type, are refused. Prints the kinds.
package main

import (
	"bytes"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	file, err := os.ReadFile(os.Args[1])
	must(err)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	for _, document := range bytes.Split(file, []byte("\n---\n")) {
		bytes, err := utilyaml.ToJSON(document)
		must(err)
		_, kind, err := decoder.Decode(bytes, nil, nil)
		must(err)
		fmt.Println(kind.GroupVersion().String(), kind.Kind)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
