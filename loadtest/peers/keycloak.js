// The adapter of Keycloak's own guides, offline: with the realm's public key.
const express = require("express");
const Keycloak = require("keycloak-connect");

const [port, server, realm, key] = process.argv.slice(2);
const keycloak = new Keycloak({}, {
  realm, "auth-server-url": server, resource: "orders-api", "bearer-only": true, "realm-public-key": key,
  "verify-token-audience": true,
});
const app = express();
app.use(keycloak.middleware());
app.get("/auth", keycloak.protect(), (_, answer) => answer.status(200).end());
app.listen(Number(port), "127.0.0.1");
