// The helper behind node:http, with databases of one list each, for the test.
import { createServer } from 'node:http';
import { byShard } from './by-shard.mjs';

const refused = (code) => Object.assign(new Error(code), { code });

/** A database: rows that were committed, and connections that were given back. */
class Pool {
  rows = [];
  givenBack = 0;

  constructor(isClosed = false) {
    this.isClosed = isClosed;
  }

  async connect() {
    let pending = [];
    return {
      pool: this,
      write: (row) => pending.push(row),
      count: () => this.rows.length + pending.length,
      query: async (text) => {
        if (text === 'COMMIT') this.rows.push(...pending);
        pending = [];
      },
      release: () => (this.givenBack += 1),
    };
  }
}

const pools = new Map([['a', new Pool()], ['b', new Pool(true)]]);
const handle = async (request, connection) => {
  if (request.method === 'POST') {
    connection.write(request.url);
    if (connection.pool.isClosed) throw refused('55006');
    if (request.url.endsWith('99')) throw refused('23505');
  }
  return `${request.headers['x-shard']} ${connection.count()} ${connection.pool.givenBack}`;
};
const server = createServer(byShard(pools, handle));
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
