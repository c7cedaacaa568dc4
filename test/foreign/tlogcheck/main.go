// A log over HTTP, read by torchwood and x/mod's tlog: usage tlogcheck URL VKEY OLD-CHECKPOINT CONSISTENCY PROOF ENTRY.
// Or tlogcheck cosigned VKEY WITNESS-VKEY CHECKPOINT: the log and the witness signed it.
// Every entry is fetched and authenticated against the checkpoint in CONSISTENCY; the older checkpoint must be its beginning; the proof must hold.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What is looked at, for whoever reads why it was refused.
var step = "arguments"

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Printf("REFUSED (%s): %v\n", step, err)
		os.Exit(1)
	}
	return v
}

func cosigned(vkey, witness, file string) {
	log := must(note.NewVerifier(vkey))
	policy := torchwood.ThresholdPolicy(3, torchwood.OriginPolicy(log.Name()), torchwood.SingleVerifierPolicy(log),
		torchwood.SingleVerifierPolicy(must(torchwood.NewCosignatureVerifier(witness))))
	step = "checkpoint"
	checkpoint, _, err := torchwood.VerifyCheckpoint(must(os.ReadFile(file)), policy)
	must(0, err)
	fmt.Printf("cosigned %d entries\n", checkpoint.N)
}

func main() {
	if os.Args[1] == "cosigned" {
		cosigned(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	base, vkey := os.Args[1], os.Args[2]
	read := func(n int) []byte { return must(os.ReadFile(os.Args[n])) }
	verifier := must(note.NewVerifier(vkey))
	policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(verifier.Name()), torchwood.SingleVerifierPolicy(verifier))

	step = "checkpoints"
	head, checkpoint, _ := strings.Cut(string(read(4)), "\n\n")
	newest, _, err := torchwood.VerifyCheckpoint([]byte(checkpoint), policy)
	must(0, err)
	old, _, err := torchwood.VerifyCheckpoint(read(3), policy)
	must(0, err)

	step = "entries"
	client := must(torchwood.NewClient(must(torchwood.NewTileFetcher(base))))
	count := int64(0)
	for range client.AllEntries(context.Background(), newest.Tree, 0) {
		count++
	}
	must(0, client.Err())
	if count != newest.N {
		must(0, fmt.Errorf("%d entries of %d", count, newest.N))
	}

	step = "consistency"
	var proof tlog.TreeProof
	for _, line := range strings.Split(head, "\n")[1:] {
		var hash tlog.Hash
		copy(hash[:], must(base64.StdEncoding.DecodeString(line)))
		proof = append(proof, hash)
	}
	must(0, tlog.CheckTree(proof, newest.N, newest.Hash, old.N, old.Hash))

	step = "inclusion"
	must(0, torchwood.VerifyProof(policy, tlog.RecordHash(read(6)), read(5)))
	if torchwood.VerifyProof(policy, tlog.RecordHash(bytes.ToUpper(read(6))), read(5)) == nil {
		must(0, fmt.Errorf("a proof that proves anything"))
	}
	fmt.Printf("verified %d entries\n", count)
}
