// An application whose answers a test writes and whose requests it can count.
import { createServer } from "node:http";

/** An origin: `on("/path", (request, response) => …)`; what was asked is in `seen`. */
export async function startOrigin() {
  const handlers = new Map();
  const seen = [];
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://origin");
    const handler = handlers.get(pathname);
    const chunks = [];
    seen.push({ method: request.method, url: request.url, headers: request.headers, chunks });
    if (handler?.streams !== true) for await (const chunk of request) chunks.push(chunk);
    if (handler) return handler(request, response, chunks);
    response.writeHead(404, { "content-type": "text/plain" }).end("not found");
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    seen,
    count: (pathname) => seen.filter(({ url }) => url.split("?")[0] === pathname).length,
    last: () => seen.at(-1),
    on: (pathname, handler) => handlers.set(pathname, handler),
    onUpgrade: (handler) => server.on("upgrade", handler),
    answer(pathname, status, headers, body) {
      handlers.set(pathname, (_, response) => response.writeHead(status, headers).end(body));
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
