#!/usr/bin/env bash
# One would expect: a JWK of a P-256 key has coordinates of 32 bytes, as RFC 7518 6.2.1.2 demands, whatever library wrote it.
# Really: Authlib's authlib.jose writes them as short as the number allows. One key in 128 has a coordinate that begins with a zero
# byte; its JWK is short by one, its RFC 7638 thumbprint is another than everybody else's, and PyJWT refuses it.
# Software: Authlib 1.9.10, joserfc 1.8.0, PyJWT 2.15.1, cryptography 50.0.2 (PyPI).
# Source: RFC 7518 6.2.1.2: "the length of this octet string MUST be the full size of a coordinate".
set -euo pipefail

dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"

python3 -m venv venv
packages=(Authlib==1.9.10 joserfc==1.8.0 PyJWT==2.15.1 cryptography==50.0.2)
venv/bin/pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "${packages[@]}"

cat >try.py <<'END'
import base64
import sys
import warnings

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

warnings.simplefilter("ignore")
import authlib.jose
import joserfc.jwk
import jwt

# Keys until one has x below 2^248 and one has none, but no more than 10,000.
short = full = None
for _ in range(10000):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    numbers = key.public_numbers()
    if numbers.x < 2**248 <= numbers.y:
        short = short or key
    elif min(numbers.x, numbers.y) >= 2**248:
        full = full or key
    if short and full:
        break

lines = []
for name, key in (("full", full), ("short", short)):
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    by_authlib, by_joserfc = authlib.jose.ECKey.import_key(pem), joserfc.jwk.ECKey.import_key(pem)
    jwk = {field: by_authlib.as_dict()[field] for field in ("kty", "crv", "x", "y")}
    size = {
        who: len(base64.urlsafe_b64decode(made.as_dict()["x"] + "=="))
        for who, made in (("authlib", by_authlib), ("joserfc", by_joserfc))
    }
    same = by_authlib.thumbprint() == by_joserfc.thumbprint()
    try:
        jwt.PyJWK(jwk, algorithm="ES256")
        taken = "taken"
    except jwt.exceptions.InvalidKeyError as error:
        taken = str(error)
    lines.append(
        f"{name}: x has {size['authlib']} bytes by authlib, {size['joserfc']} by joserfc; "
        f"thumbprints {'alike' if same else 'differ'}; PyJWT of authlib's: {taken}"
    )
print("\n".join(lines))
want = [
    "full: x has 32 bytes by authlib, 32 by joserfc; thumbprints alike; PyJWT of authlib's: taken",
    "short: x has 31 bytes by authlib, 32 by joserfc; thumbprints differ; "
    "PyJWT of authlib's: Coords should be 32 bytes for curve P-256",
]
sys.exit(lines != want)
END
if venv/bin/python try.py; then
    echo "as stated: authlib leaves the zero byte out"
else
    echo "changed"
    exit 1
fi
