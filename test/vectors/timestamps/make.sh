#!/bin/sh
# Timestamps by real authorities of OpenSSL over text.txt: sh make.sh DIR. Keys are thrown away; certificates are good for a century.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -f text.txt ] || printf 'log.example/a\n42\n%s\n' "$(printf root | openssl dgst -sha256 -binary | base64)" > text.txt
days=36500

root() { # NAME KEYOPTIONS
  name=$1; shift
  openssl req -x509 -newkey "$@" -nodes -keyout "$work/$name.key" -out "$name.pem" -days $days -subj "/O=Test/CN=$name" \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign 2>/dev/null
}
issue() { # NAME ISSUER EXTENSIONS KEYOPTIONS
  name=$1; issuer=$2; extensions=$3; shift 3
  openssl req -new -newkey "$@" -nodes -keyout "$work/$name.key" -out "$work/$name.csr" -subj "/O=Test/CN=$name" 2>/dev/null
  printf '%b' "$extensions" > "$work/ext"
  openssl x509 -req -in "$work/$name.csr" -CA "$issuer.pem" -CAkey "$work/$issuer.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days $days -extfile "$work/ext" -out "$name.pem" 2>/dev/null
}
reply() { # OUT TSA CHAIN DIGEST ESS
  printf '01\n' > "$work/serial"
  cat > "$work/tsa.cnf" <<CNF
[ tsa ]
serial = $work/serial
crypto_device = builtin
signer_digest = $4
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = $5
CNF
  openssl ts -query -data text.txt -sha256 -cert -out "$work/query.tsq" 2>/dev/null
  openssl ts -reply -config "$work/tsa.cnf" -section tsa -queryfile "$work/query.tsq" -signer "$2.pem" -inkey "$work/$2.key" -chain "$3" -out "$1.tsr" 2>/dev/null
}
stamping='keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n'
root rsa-root rsa:2048
issue rsa-tsa rsa-root "$stamping" rsa:2048
reply rsa rsa-tsa rsa-root.pem sha256 sha256
reply rsa-sha1-name rsa-tsa rsa-root.pem sha512 sha1
root ec-root ec -pkeyopt ec_paramgen_curve:P-384
issue ec-middle ec-root 'basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n' ec -pkeyopt ec_paramgen_curve:P-256
issue ec-tsa ec-middle "$stamping" ec -pkeyopt ec_paramgen_curve:P-256
reply ec ec-tsa ec-middle.pem sha384 sha256
# An authority that has no purpose: OpenSSL does not let it stamp.
openssl ts -query -data text.txt -sha1 -cert -out "$work/query.tsq" 2>/dev/null
openssl ts -reply -config "$work/tsa.cnf" -section tsa -queryfile "$work/query.tsq" -signer rsa-tsa.pem -inkey "$work/rsa-tsa.key" -out refused.tsr 2>/dev/null || true
rm -f rsa-tsa.pem ec-tsa.pem ec-middle.pem
