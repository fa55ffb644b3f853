#!/bin/sh
# Makes seeds/pkcs7_der: small signatures over one formatted digest (SHA-256, 32 bytes of 0x5a), most
# of them acceptable, by the throw-away certificates that it leaves in fuzz_targets/signers/.
# Run it in fuzz/; new keys give new seeds, which is fine.
set -eu

seeds=$PWD/seeds/pkcs7_der
signers=$PWD/fuzz_targets/signers
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
rm -rf "$seeds" "$signers"
mkdir -p "$seeds" "$signers"
cd "$work"

printf 'FSVerity\001\000\040\000' > content
printf '%032d' 0 | tr 0 Z >> content

certificate() { # NAME SUBJECT genpkey options...
	name=$1 subject=$2
	shift 2
	openssl genpkey "$@" -out "$name.key" 2> openssl.log
	openssl req -x509 -new -utf8 -key "$name.key" -days 36500 -subj "$subject" -out "$name.crt"
}

sign() { # SEED smime|cms SIGNER options...
	seed=$1 command=$2 signer=$3
	shift 3
	openssl "$command" -sign -binary -outform der -signer "$signer.crt" -inkey "$signer.key" \
		-in content -out "$seeds/$seed" "$@"
}

certificate rsa2048 /CN=rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
certificate p256 /CN=p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
certificate p384 /CN=p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
certificate p521 /CN=p521 -algorithm EC -pkeyopt ec_paramgen_curve:P-521
certificate long "/C=DE/O=Größe, Inc./OU=a+OU=b/DC=example/CN=seals/emailAddress=a@example.com" \
	-algorithm EC -pkeyopt ec_paramgen_curve:P-256
for name in rsa2048 p256; do
	openssl x509 -in "$name.crt" -outform der -out "$signers/$name.der"
done

plain='-noattr -nocerts'
# shellcheck disable=SC2086
{
	sign rsa2048-sha256 smime rsa2048 $plain
	sign rsa2048-sha384 smime rsa2048 $plain -md sha384
	sign rsa2048-sha512 smime rsa2048 $plain -md sha512
	sign p256-sha256 smime p256 $plain
	sign p256-sha512 smime p256 $plain -md sha512
	sign p384-sha384 smime p384 $plain -md sha384
	sign p521-sha512 smime p521 $plain -md sha512
	sign p256-cms cms p256 $plain
	sign rsa2048-cms cms rsa2048 $plain
	sign long-name smime long $plain
}
sign p256-embedded smime p256 -noattr
sign p256-embedded-two smime p256 -noattr -certfile long.crt
# Outside of the profile.
sign p256-attributes smime p256 -nocerts
sign p256-attached smime p256 -noattr -nocerts -nodetach
sign p256-keyid cms p256 -noattr -nocerts -keyid
sign p256-sha1 smime p256 -noattr -nocerts -md sha1
