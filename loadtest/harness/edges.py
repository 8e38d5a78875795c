"""nginx and Envoy, as in deploy/ but for one machine and one core."""

import json

from .processes import Process, free_port, wait_for
from . import ask

NGINX = """
worker_processes 1;
daemon off;
pid nginx-{port}.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body-{port}; proxy_temp_path proxy-{port}; fastcgi_temp_path fastcgi-{port};
    uwsgi_temp_path uwsgi-{port}; scgi_temp_path scgi-{port};
    keepalive_requests 1000000000;
    client_header_buffer_size 4k;
    large_client_header_buffers 4 20k;
    {upstream}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ {content} }}
        location = /auth {{ return 204; }}
        {question}
    }}
}}
"""
UPSTREAM = "upstream vidimus {{ server unix:{socket}; keepalive 64; keepalive_requests 1000000000; }}"
# The question of deploy/nginx/nginx.conf.
QUESTION = """
        location ^~ /_vidimus/ {
            internal;
            proxy_pass http://vidimus/auth/;
            proxy_http_version 1.1;
            proxy_method HEAD;
            proxy_pass_request_headers off;
            proxy_pass_request_body off;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header Authorization     $http_authorization;
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Original-URI    $request_uri;
            proxy_set_header X-Original-Host   $host;
            proxy_connect_timeout 1s;
            proxy_send_timeout    1s;
            proxy_read_timeout    6s;
            proxy_next_upstream error;
            proxy_buffer_size 32k;
            proxy_buffers   3 32k;
        }
"""


class Nginx:
    """Answers /orders/7 from memory, after asking at `socket` if there is one; 204 at /auth without asking."""

    def __init__(self, scene, name, socket=None):
        self.port = free_port()
        content = "empty_gif;"
        if socket:
            content = "auth_request /_vidimus/default; auth_request_set $user $upstream_http_x_auth_request_user; " + content
        config = scene.work / f"{name}.conf"
        config.write_text(NGINX.format(
            port=self.port, content=content, question=QUESTION if socket else "",
            upstream=UPSTREAM.format(socket=socket) if socket else "",
        ))
        user = "user root;\n" if scene.is_root else ""
        config.write_text(user + config.read_text())
        self.process = Process(name, ["nginx", "-p", scene.work, "-e", "stderr", "-c", config], scene.work)
        wait_for(name, self.process, lambda: ask.get(self.port, "/auth")[0] == 204)


TYPES = "type.googleapis.com/envoy.extensions.filters"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}


def ext_authz():
    """The filter of deploy/envoy/envoy.yaml."""
    return {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{TYPES}.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "vidimus"}, "timeout": "6s",
                "retry_policy": {"retry_on": "reset-before-request,connect-failure", "num_retries": 1},
            },
            "allowed_headers": {"patterns": [{"exact": "authorization"}]},
            "encode_raw_headers": True,
            "failure_mode_allow": False,
        },
    }


def jwt_authn(issuer, jwks, cache):
    """Envoy's own check of tokens."""
    provider = {
        "issuer": issuer, "audiences": ["orders-api"], "forward": True, "local_jwks": {"filename": str(jwks)},
    }
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": cache}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{TYPES}.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"shop": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "shop"}}],
        },
    }


class Envoy:
    """Answers 200 itself, after `auth` if there is one; over gRPC at `socket`."""

    def __init__(self, scene, name, auth=None, socket=None):
        self.port = free_port()
        filters = [auth, ROUTER] if auth else [ROUTER]
        manager = {
            "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "site", "use_remote_address": True, "normalize_path": True, "http_filters": filters,
            "route_config": {"virtual_hosts": [{
                "name": "site", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
            }]},
        }
        listener = {
            "name": "site", "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }]}],
        }
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster = {
            "name": "vidimus", "connect_timeout": "1s",
            "typed_extension_protocol_options": {options: {
                "@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {"cluster_name": "vidimus", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"pipe": {"path": str(socket)}}}},
            ]}]},
        }
        config = scene.work / f"{name}.json"
        config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster] if socket else []}}))
        command = [scene.envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        self.process = Process(name, command, scene.work)
        wait_for(name, self.process, lambda: ask.get(self.port, "/")[0] > 0)
