// The Express application under test.
const express = require("express");
const override = require("method-override");
const compression = require("compression");

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
app.put("/thing", (_, response) => response.send("put"));
app.post("/thing", (_, response) => response.status(201).send("posted"));
app.use((request, response) => response.send(Buffer.from(request.url, "latin1")));
app.listen(Number(process.env.PORT), "127.0.0.1");
