"""An issuer whose every realm has the same keys: issuer.py PORT SERVER JWKS.

Introspection calls every token that begins with "good-" active, with the claims of a Keycloak token.
"""

import json
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

PORT, SERVER, JWKS = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "rb").read()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one piece

    def do_GET(self):
        realm, _, page = self.path.removeprefix("/realms/").partition("/")
        issuer = f"{SERVER}/realms/{realm}"
        if page == ".well-known/openid-configuration":
            connect = f"{issuer}/protocol/openid-connect"
            self.say({"issuer": issuer, "jwks_uri": f"{connect}/certs", "token_endpoint": f"{connect}/token",
                      "introspection_endpoint": f"{connect}/token/introspect"})
        elif page == "protocol/openid-connect/certs":
            self.say(JWKS)
        else:
            self.send_error(404)

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        realm = self.path.removeprefix("/realms/").partition("/")[0]
        if not form.get("token", [""])[0].startswith("good-"):
            self.say({"active": False})
            return
        now = int(time.time())
        self.say({
            "active": True, "exp": now + 3600, "iat": now, "jti": "onrtac:5c0ffee5-7a11-4bad-9d00-000000000000",
            "iss": f"{SERVER}/realms/{realm}", "aud": ["orders-api", "vidimus"], "typ": "Bearer",
            "sub": "f1d0ca5e-0000-4000-8000-a11ce0000001", "azp": "orders-web", "client_id": "orders-web",
            "username": "alice", "preferred_username": "alice", "email": "alice@example.com", "token_type": "Bearer",
            "scope": "openid orders:read email profile",
            "realm_access": {"roles": ["offline_access", "uma_authorization", "default-roles-demo"]},
        })

    def say(self, body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 4096


Server(("127.0.0.1", PORT), Handler).serve_forever()
