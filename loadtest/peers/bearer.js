// Auth0's middleware for express.
const express = require("express");
const { auth } = require("express-oauth2-jwt-bearer");

const [port, issuer, jwksUri] = process.argv.slice(2);
const app = express();
app.use(auth({ issuer, jwksUri, audience: "orders-api", tokenSigningAlg: "RS256" }));
app.get("/auth", (_, answer) => answer.status(200).end());
app.use((error, _, answer, next) => (error.status ? answer.status(error.status).end() : next(error)));
app.listen(Number(port), "127.0.0.1");
