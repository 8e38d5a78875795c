"""What users would pick instead, each as its own documents set it up."""

from pathlib import Path

from . import ask
from .needs import APACHE_MODULES
from .processes import Process, free_port, wait_for
from .tokens import ISSUER, REALM, SERVER

PEERS = Path(__file__).resolve().parents[1] / "peers"
APACHE = """
ServerName localhost
ServerRoot "{work}"
PidFile apache-{port}.pid
Listen 127.0.0.1:{port}
ErrorLog apache-error.log
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_openidc_module {modules}/mod_auth_openidc.so
StartServers 1
ServerLimit 2
ThreadsPerChild 128
MaxRequestWorkers 256
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot "{work}/apache"
OIDCOAuthVerifyCertFiles {certificate}
OIDCOAuthRemoteUserClaim preferred_username
OIDCCryptoPassphrase load
<Location "/auth">
    AuthType oauth20
    <RequireAll>
        Require claim "iss:{issuer}"
        Require claim aud:orders-api
    </RequireAll>
</Location>
"""


class Apache:
    """mod_auth_openidc as a resource server, around a small file."""

    def __init__(self, scene):
        self.port = free_port()
        (scene.work / "apache").mkdir(exist_ok=True)
        (scene.work / "apache/auth").write_text("ok\n")
        config = scene.work / "apache.conf"
        config.write_text(APACHE.format(
            work=scene.work, port=self.port, modules=APACHE_MODULES, certificate=scene.tokens.certificate(),
            issuer=ISSUER,
            user="User www-data\nGroup www-data" if scene.is_root else "",
        ))
        if scene.is_root:  # whose workers are another user
            scene.work.chmod(0o755)
        self.process = Process("apache", ["apache2", "-DFOREGROUND", "-f", config], scene.work)
        wait_for("apache", self.process, lambda: ask.get(self.port, "/auth")[0] == 401)


class Node:
    """One of the two servers beside this file's folder."""

    def __init__(self, scene, script):
        self.port = free_port()
        arguments = {
            "keycloak": [SERVER, REALM, scene.tokens.public_key()],
            "bearer": [ISSUER, scene.issuer.jwks_uri],
        }[script]
        env = {"NODE_ENV": "production", "NODE_PATH": str(scene.node / "node_modules")}
        self.process = Process(script, ["node", PEERS / f"{script}.js", self.port, *arguments], scene.work, env=env)
        wait_for(script, self.process, lambda: ask.get(self.port, "/auth")[0] in (401, 403))
