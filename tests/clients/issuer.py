"""An issuer of tokens as Entra ID is one: a discovery document, keys, and tokens for applications with their roles.

    python issuer.py                prints its address, then answers until its standard input ends

`POST /TENANT/oauth2/v2.0/token` takes client credentials; what stands in `client_secret` as JSON goes into the claims, so
that a test can ask for any token. `POST /rotate` changes the key.
"""

import http.server
import json
import sys
import threading
import time
import urllib.parse
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

KEYS = []  # the last one signs


def rotate():
    KEYS.append((str(uuid.uuid4()), rsa.generate_private_key(public_exponent=65537, key_size=2048)))


class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.endswith("/v2.0/.well-known/openid-configuration"):
            tenant = self.path.split("/")[1]
            base = f"{URL}/{tenant}"
            self.answer(
                {
                    "issuer": f"{base}/v2.0",
                    "jwks_uri": f"{base}/discovery/v2.0/keys",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "id_token_signing_alg_values_supported": ["RS256"],
                    "response_types_supported": ["token"],
                    "subject_types_supported": ["pairwise"],
                }
            )
        elif self.path.endswith("/discovery/v2.0/keys"):
            keys = [jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} for kid, key in KEYS]
            self.answer({"keys": keys})
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/rotate":
            rotate()
            return self.answer({})
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        tenant, now = self.path.split("/")[1], int(time.time())
        claims = {
            "iss": f"{URL}/{tenant}/v2.0",
            "aud": form["scope"].removesuffix("/.default"),
            "azp": form["client_id"],
            "tid": tenant,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "ver": "2.0",
            "roles": ["Calls.JoinGroupCall.All"],
        }
        claims.update(json.loads(form["client_secret"]))
        kid, key = KEYS[-1]
        if form.get("forged"):
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        token = jwt.encode({name: one for name, one in claims.items() if one is not None}, key, "RS256", {"kid": kid})
        self.answer({"token_type": "Bearer", "expires_in": 3600, "access_token": token})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


rotate()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
URL = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
print(URL, flush=True)
sys.stdin.read()
