#!/bin/sh
# Makes an authority and certificates for trying out TLS: deploy/dev-ca.sh FOLDER. Not for production: the keys
# are readable by every user of this host, because containers run under another one.
set -eu
folder=$1
mkdir -p "$folder"
cd "$folder"
[ -e ca.crt ] && { echo "$folder holds an authority already; remove the folder first" >&2; exit 1; }
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=cir development" -keyout ca.key -out ca.crt \
    -addext "basicConstraints=critical,CA:TRUE" 2>/dev/null
for name in embedder combiner search demo http indexer client; do
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr" 2>/dev/null
    printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' "$name" > "$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$name.ext" \
        -out "$name.crt" 2>/dev/null
    rm "$name.csr" "$name.ext"
done
chmod 644 ./*.key
chmod 600 ca.key
