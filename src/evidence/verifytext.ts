/** `VERIFY.md` of a bundle (docs/evidence.md 5): how to check it without anything of ours. Its commands are run in `test/foreign/evidence.test.ts`. */
import type { BundleHead } from './facts.ts';
import { PREDICATE_TYPE } from './bundle.ts';

export function verifyText({ period, exportedAt, log, server }: BundleHead, fingerprint: string): string {
  return `# How to check this evidence bundle

Period ${period.from} to ${period.to}, exported ${exportedAt} by Bootproof ${server.version}.

Nothing in this file has to be believed. What you need is one thing that did **not** come with the bundle: the fingerprint of the server's key,
from somebody who can answer for it. The one of the key inside is

    ${fingerprint}

but whoever makes a bundle puts a key of their own into it. Compare.

## With Bootproof

    bootproof evidence verify bundle.zip --key FINGERPRINT --known-checkpoint FILE

It needs no network, says each thing that it checked and each that it could not, and ends with 0 only if all is well. The page \`/verify\` of any
Bootproof server does the same in a browser, from a file and offline. \`FILE\` is a checkpoint of the log that somebody kept who does not run
the server: \`bootproof agent checkpoint\` on some hosts prints one. Without any, a server could have rewritten its log.

## With openssl, jq and coreutils

Unpack it, and see that there is nothing in it which is not signed (OpenSSL 3, bash):

    mkdir bundle && cd bundle && unzip -q ../bundle.zip
    openssl pkey -pubin -in server.pub.pem -outform DER | sha256sum        # the fingerprint
    T=$(jq -r .payloadType statement.dsse.json)
    jq -r .payload statement.dsse.json | base64 -d > ../statement.json
    jq -r '.signatures[0].sig' statement.dsse.json | base64 -d > ../statement.sig
    { printf 'DSSEv1 %d %s %d ' \${#T} "$T" $(wc -c < ../statement.json); cat ../statement.json; } > ../statement.pae
    openssl pkeyutl -verify -pubin -inkey server.pub.pem -rawin -in ../statement.pae -sigfile ../statement.sig
    jq -r '.subject[] | "\\(.digest.sha256)  \\(.name)"' ../statement.json > ../sums && sha256sum -c --quiet --strict ../sums
    diff <(find . -type f ! -name statement.dsse.json | cut -c3- | LC_ALL=C sort) <(cut -c67- ../sums | LC_ALL=C sort)

\`sha256sum -c\` does not notice files that nobody signed: the last line does.

## With cosign

    cosign verify-blob-attestation --key server.pub.pem --bundle ../statement.sigstore.json --insecure-ignore-tlog=true --type ${PREDICATE_TYPE} VERIFY.md

where \`../statement.sigstore.json\` is the statement in cosign's own form:

    jq '{mediaType:"application/vnd.dev.sigstore.bundle.v0.3+json",verificationMaterial:{publicKey:{hint:""},tlogEntries:[]},dsseEnvelope:.}' statement.dsse.json > ../statement.sigstore.json

cosign warns that it skips the transparency log: it means sigstore's public one, which does not know this server. It looks at one file at a
time.

## The log

\`log/checkpoint\` is signed by the log's own key, \`log/key\`, which the statement names (size ${log.size}):

    sed '/^$/,$d' log/checkpoint > ../cp.txt
    grep -F "— ${log.origin} " log/checkpoint | head -1 | cut -d' ' -f3 | base64 -d | tail -c +5 > ../cp.sig
    { printf '\\x30\\x2a\\x30\\x05\\x06\\x03\\x2b\\x65\\x70\\x03\\x21\\x00'; cut -d+ -f3- log/key | base64 -d | tail -c +2; } > ../log.der
    openssl pkeyutl -verify -pubin -keyform DER -inkey ../log.der -rawin -in ../cp.txt -sigfile ../cp.sig

\`log/last.tlog-proof\` is a C2SP tlog-proof that \`log/last.entry\` is in that log: \`filippo.io/torchwood\` (VerifyProof) reads it. The whole log is at
\`https://${log.origin}\` while the server is up, and \`github.com/transparency-dev/tessera/cmd/fsck\` checks it
(\`fsck --ui=false -N 16 --storage_url=https://${log.origin}/ --public_key=log/key\`: look for "Successfully fsck'd log", it exits 0 on failure too).
Compare the checkpoint there with the one here: a log that was forked passes fsck on either side, and only a consistency proof between the two tells.

A record of \`records/*.ndjson\` belongs to its entry by a salted digest:

    head -1 records/acts-00001.ndjson | jq -r .salt | base64 -d > ../salted
    head -1 records/acts-00001.ndjson | jq -j .payload >> ../salted
    sha256sum ../salted                      # the digest in the entry of that index

A timestamp in \`log/timestamps/\`, if there is one of this size, is over the bytes of \`log/checkpoint\` up to its empty line, that line left out:

    openssl ts -verify -data ../cp.txt -in log/timestamps/NAME.${log.size}.tsr -CAfile THE-AUTHORITYS-CA.pem

One with a smaller number is over the same three lines of an earlier checkpoint. \`bootproof evidence verify --trusted-root\` computes that from the entries.

## Reports of hosts

Each line of \`records/reports-*.ndjson\` has a report as the host signed it, in \`payload\`: the same form as the statement, by the host's key, which
\`facts/hosts-*.ndjson\` names in hex (\`key\`). File manifests are mtree texts: \`sha256sum manifests/texts/*\` prints their names.
`;
}
