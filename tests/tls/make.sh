#!/bin/sh
# Made these certificates and keys, which are for tests alone: an authority, a node's two, a client's, and a stranger's own.
set -eu
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; chmod 600 "$1.key"; }
signed() {
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\n%s\n' "$2" "${3:-}" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days 36500 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
    rm "$1.csr" "$1.ext"
}
key ca
openssl req -x509 -new -key ca.key -subj /CN=ca -days 36500 -out ca.pem
for node in node renewed; do signed $node serverAuth 'subjectAltName=DNS:tandem-a.example.com,DNS:localhost,IP:127.0.0.1'; done
signed client clientAuth
key stranger
openssl req -x509 -new -key stranger.key -subj /CN=stranger -days 36500 -addext extendedKeyUsage=clientAuth,serverAuth -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out stranger.pem
rm ca.key ca.srl 2>/dev/null || rm -f ca.key
