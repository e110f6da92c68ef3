// A backend on grpc-js: the greeter of this repository, and the health service of
// `grpc-health-check`. `tests/interop/README.md` has the protocol between it and the
// runner.
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const readline = require('readline');
const { parseArgs } = require('util');

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { HealthImplementation } = require('grpc-health-check');

// A text that cannot stand in a header as it is.
const DETAILS = 'not today: 100 % naïve – 日本';

const { values: given } = parseArgs({
  options: {
    name: { type: 'string', default: 'js' },
    health: { type: 'string', default: '' }, // SERVICE=STATUS,…
    'no-health': { type: 'boolean', default: false },
    gzip: { type: 'boolean', default: false }, // Servers of grpc-js do not compress.
    'max-age-ms': { type: 'string' },
    'grace-ms': { type: 'string', default: '0' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});

const definition = loader.loadSync('demo/v1/greeter.proto', {
  includeDirs: [path.join(__dirname, 'proto')],
  defaults: true,
});
const greeter = grpc.loadPackageDefinition(definition).demo.v1.Greeter;

// What the greeter's calls were like.
const seen = { calls: 0, cancelled: 0, deadline_ms: 0, metadata: {} };
const peers = new Set();
// Calls that came to their end.
const answered = new WeakSet();

// The caller's own metadata, which goes back in headers, and again in trailers.
function echo(call, prefix) {
  const own = new grpc.Metadata();
  for (const name of Object.keys(call.metadata.getMap())) {
    if (name.startsWith('x-')) {
      for (const value of call.metadata.get(name)) {
        own.add(prefix + name.slice(2), value);
      }
    }
  }
  return own;
}

function began(call) {
  seen.calls += 1;
  peers.add(call.getPeer());
  const deadline = call.getDeadline();
  const left = Number(deadline) - Date.now();
  seen.deadline_ms = Number.isFinite(left) ? left : 0;
  seen.metadata = {};
  const own = echo(call, 'x-');
  for (const name of Object.keys(own.getMap())) {
    const values = own.get(name).map((v) => (Buffer.isBuffer(v) ? v.toString('base64') : v));
    seen.metadata[name] = values.join(',');
  }
  // It says so of every call in the end.
  call.on('cancelled', () => {
    if (!answered.has(call)) seen.cancelled += 1;
  });
  call.sendMetadata(echo(call, 'x-'));
}

function reply(message) {
  return { message, backend: given.name };
}

// `google.rpc.Status` with one detail; grpc-js leaves its encoding to others.
function rich(code) {
  const field = (number, bytes) => {
    const length = [];
    let rest = bytes.length;
    for (; rest > 127; rest >>= 7) length.push((rest & 127) | 128);
    return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, rest]), bytes]);
  };
  const detail = Buffer.concat([
    field(1, Buffer.from('type.googleapis.com/demo.v1.HelloReply')),
    field(2, definition['demo.v1.Greeter'].SayHello.responseSerialize(reply('detail'))),
  ]);
  const head = Buffer.from([8, code]);
  return Buffer.concat([head, field(2, Buffer.from(DETAILS)), field(3, detail)]);
}

// Does what the name asks for.
async function greet(call, name) {
  const [order, argument] = name.split(':');
  switch (order) {
    case 'hold':
      return new Promise(() => {});
    case 'slow':
      await new Promise((done) => setTimeout(done, Number(argument)));
      break;
    case 'size':
      return reply('x'.repeat(Number(argument)));
    case 'count':
      return reply(`${argument.length} letters`);
    case 'fail': {
      const metadata = echo(call, 'x-trailing-');
      metadata.set('grpc-status-details-bin', rich(Number(argument)));
      throw { code: Number(argument), details: DETAILS, metadata };
    }
  }
  return reply(`Hello ${name}!`);
}

async function write(call, message) {
  if (!call.write(message)) {
    await new Promise((drained) => call.once('drain', drained));
  }
}

function unary(handler) {
  return (call, callback) => {
    began(call);
    handler(call).finally(() => answered.add(call)).then(
      (answer) => callback(null, answer, echo(call, 'x-trailing-')),
      (error) => callback(error),
    );
  };
}

function streaming(handler) {
  return (call) => {
    began(call);
    handler(call).finally(() => answered.add(call)).then(
      () => call.end(echo(call, 'x-trailing-')),
      (error) => call.emit('error', error),
    );
  };
}

// One request after the other. Not `for await`, which destroys the call at its end,
// and with it what is still to be written.
function each(call, handle) {
  return new Promise((done, failed) => {
    let last = Promise.resolve();
    call.on('data', (request) => {
      last = last.then(() => handle(request));
      last.catch(failed);
    });
    call.on('end', () => last.then(done, failed));
  });
}

const handlers = {
  sayHello: unary((call) => greet(call, call.request.name)),
  sayHelloMany: streaming(async (call) => {
    for (let n = 0; n < call.request.count; n += 1) {
      await write(call, await greet(call, call.request.name));
    }
  }),
  // Replies with how many letters the names have, as they may be large.
  greetAll: unary(async (call) => {
    let names = 0;
    let letters = 0;
    await each(call, async (request) => {
      await greet(call, request.name);
      names += 1;
      letters += request.name.length;
    });
    return reply(`${names} names of ${letters} letters`);
  }),
  chat: streaming((call) =>
    each(call, async (request) => {
      await write(call, await greet(call, request.name));
    }),
  ),
};

const options = {};
if (given['max-age-ms']) {
  options['grpc.max_connection_age_ms'] = Number(given['max-age-ms']);
  options['grpc.max_connection_age_grace_ms'] = Number(given['grace-ms']);
}
const server = new grpc.Server(options);
server.addService(greeter.service, handlers);
const statuses = given.health.split(',').filter(Boolean).map((each) => each.split('='));
const health = new HealthImplementation(Object.fromEntries(statuses));
if (!given['no-health']) {
  health.addToServer(server);
}
const known = new Set(statuses.map(([service]) => service));

function set(service, status) {
  known.add(service);
  health.setStatus(service, status);
}

// To its end, if no stream hangs on.
function stop() {
  server.tryShutdown((error) => process.exit(error ? 1 : 0));
}

function obey(line) {
  const [, order, service] = /^(\S*) ?(.*)$/.exec(line);
  switch (order) {
    case 'serving':
      set(service, 'SERVING');
      return 'ok';
    case 'not_serving':
      set(service, 'NOT_SERVING');
      return 'ok';
    case 'stop':
      stop();
      return 'ok';
    case 'retire':
      known.forEach((name) => set(name, 'NOT_SERVING'));
      stop();
      return 'ok';
    case 'seen':
      return JSON.stringify({ ...seen, connections: peers.size });
    default:
      return 'no such order';
  }
}

const control = net.createServer((socket) => {
  socket.on('error', () => {});
  readline.createInterface({ input: socket }).on('line', (line) => {
    socket.write(`${obey(line)}\n`);
  });
});

const credentials = given.cert
  ? grpc.ServerCredentials.createSsl(null, [
      { cert_chain: fs.readFileSync(given.cert), private_key: fs.readFileSync(given.key) },
    ])
  : grpc.ServerCredentials.createInsecure();

// The runner is gone.
process.stdin.on('end', () => process.exit(1)).resume();

server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
  if (error) throw error;
  control.listen(0, '127.0.0.1', () => {
    const { version } = require('@grpc/grpc-js/package.json');
    const ports = { grpc: port, control: control.address().port };
    console.log(JSON.stringify({ ...ports, version: `grpc-js ${version}` }));
  });
});
