"""A bot's callback: takes notifications on loopback and believes only what the engine's published key has signed."""

import base64
import http.server
import json
import threading
import urllib.request

import jwt

PATIENCE = 20  # seconds; a start operation ends within 20 s of its acceptance


class Callback:
    """Answers 202 to a notification with a good token, 401 to any other, and keeps the good ones in order."""

    def __init__(self, engine, app_id, tenant_id):
        with urllib.request.urlopen(f"{engine}/v1/.well-known/OpenIdConfiguration") as answer:
            self.discovery = json.load(answer)
        self.forget_keys()
        self.app_id, self.tenant_id = app_id, tenant_id
        self.notifications, self.tokens, self.refused = [], [], []
        self.arrival = threading.Condition()
        callback = self

        class Door(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = callback.take(self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server.server_port}/callback"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forget_keys(self):
        """Without it the library keeps those that it has, and asks again only for a key that it does not know: usually once
        in 30 s at most, here at once."""
        self.keys = jwt.PyJWKClient(self.discovery["jwks_uri"], cooldown_duration=0)

    def take(self, headers, body):
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        with self.arrival:
            try:
                self.verify(token)
                assert scheme == "Bearer", f"the scheme is {scheme}"
            except Exception as error:
                self.refused.append(f"{type(error).__name__}: {error}")
                self.arrival.notify_all()
                return 401
            for one in json.loads(body)["value"]:
                self.notifications.append({**one, "message id": headers["X-Microsoft-Skype-Message-ID"]})
                self.tokens.append(token)
            self.arrival.notify_all()
        return 202

    def verify(self, token):
        """The claims of a good token; raises for any other."""
        key = self.keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=self.app_id,
            issuer=self.discovery["issuer"],
            options={"require": ["aud", "iss", "iat", "nbf", "exp", "tid"]},
        )
        if claims["tid"] != self.tenant_id:
            raise jwt.InvalidTokenError(f"tid is {claims['tid']}")
        return claims

    def operation_ended(self, context):
        """The notification that ends the operation with this client context."""
        for one in self.wait(lambda one: one.get("changeType") == "deleted" and context_of(one) == context):
            return one

    def wait(self, wanted, seconds=PATIENCE):
        """Every notification that is wanted, once there is one."""
        def found():
            return [one for one in self.notifications if wanted(one)]

        with self.arrival:
            if not self.arrival.wait_for(found, seconds):
                raise AssertionError(
                    f"no such notification within {seconds} s; {len(self.notifications)} others, refused: {self.refused}"
                )
            return found()


def context_of(notification):
    resource = notification.get("resourceData")
    return resource.get("clientContext") if isinstance(resource, dict) else None


def flipped(token, part):
    """The same token with one bit of its claims (1) or its signature (2) changed."""
    parts = token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    raw[len(raw) // 2] ^= 1
    parts[part] = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return ".".join(parts)
