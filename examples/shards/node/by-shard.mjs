// Chooses the database by X-Shard, and answers 503 while the shard's data moves. For node:http and Express.

/** Whether the database refused a range that has left it: SQLSTATE 55006, in pg and postgres.js. */
export const hasMoved = (error) => error?.code === '55006';

/** `pools`: a Map of pg.Pool by shard. `handle(request, connection)` gives what is answered as JSON. */
export const byShard = (pools, handle) => async (request, response) => {
  let connection;
  try {
    connection = await pools.get(request.headers['x-shard']).connect();
    await connection.query('BEGIN');
    const answer = await handle(request, connection);
    await connection.query('COMMIT');
    response.setHeader('Content-Type', 'application/json').end(JSON.stringify(answer));
  } catch (error) {
    await connection?.query('ROLLBACK').catch(() => {});
    if (hasMoved(error)) response.setHeader('Retry-After', '1');
    response.writeHead(hasMoved(error) ? 503 : 500).end();
  } finally {
    connection?.release();
  }
};
