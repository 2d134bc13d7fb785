// The Express application under test.
const express = require("express");
const override = require("method-override");
const compression = require("compression");
const session = require("express-session");

const app = express();
app.set("trust proxy", "loopback");
app.use(compression({ threshold: 0 }));
app.use(override("X-HTTP-Method-Override"));
app.get("/", (_, response) => response.send("hello\n".repeat(500)));
app.get("/seen", (request, response) =>
  response.json({ protocol: request.protocol, secure: request.secure, host: request.host }));
app.get("/hints", (_, response) => response.writeEarlyHints(
  { link: ["</a.css>; rel=preload", "</b.js>; rel=preload"] }, () => response.send("hinted")));
app.get("/assets/:file", (_, response) => response.type("js").send("run()"));
app.get("/api/items", (_, response) => response.json({ items: [1, 2] }));
app.use(session({ secret: "only for this test", resave: false, saveUninitialized: false }));
app.post("/login", (request, response) => {
  request.session.user = "ann";
  response.send("welcome");
});
const known = (request, response, next) =>
  request.session.user ? next() : response.redirect("/login");
app.get("/account", known, (_, response) => response.send("your account"));
app.post("/import", known, (request, response) => response.redirect(303, `/imports/${request.session.user}`));
app.post("/api/reports", known, express.json(), (request, response) =>
  setTimeout(() => response.json({ of: request.session.user, years: request.body.years }), 2500));
app.put("/thing", (_, response) => response.send("put"));
app.post("/thing", (_, response) => response.status(201).send("posted"));
app.use((request, response) => response.send(Buffer.from(request.url, "latin1")));
app.listen(Number(process.env.PORT), "127.0.0.1");
