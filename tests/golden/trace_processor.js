// Runs Perfetto's trace processor, as its page in a browser does in a worker of its own, without a browser:
//     node trace_processor.js FOLDER REQUESTS RESPONSES
// FOLDER holds engine_bundle.js and trace_processor.wasm; REQUESTS and RESPONSES are streams of its protocol.
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const [folder, requests, responses] = process.argv.slice(2);
const read = (url) => fs.readFileSync(path.join(folder, path.basename(String(url))));
const node = process;

// What a worker finds around it.
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = function () {};
globalThis.importScripts = () => {};
globalThis.location = { href: "http://localhost/engine_bundle.js", protocol: "http:", host: "localhost" };
globalThis.ErrorEvent = class {};
globalThis.PromiseRejectionEvent = class {};
globalThis.fetch = async (url) => new Response(read(url), { headers: { "Content-Type": "application/wasm" } });
globalThis.XMLHttpRequest = class {
  open(_, url) { this.url = url; }
  send() {
    const bytes = read(this.url);
    this.status = 200;
    this.response = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  }
};
node.on("unhandledRejection", (reason) => { console.error(reason); node.exit(2); });

// Where there is a process, it takes itself for a program of Node.
const hide = (value) => Object.defineProperty(globalThis, "process", { value, configurable: true });
hide(undefined);
vm.runInThisContext(read("engine_bundle.js").toString());
hide(node);

const answers = [];
const port = { postMessage: (data) => answers.push(Buffer.from(data)) };
self.onmessage({ data: port });
const input = new Uint8Array(fs.readFileSync(requests));
let tries = 0;
setInterval(() => {
  if (!port.onmessage) return;
  try {
    port.onmessage({ data: input });
  } catch (error) {  // it is still being made
    if (++tries > 200) throw error;
    return;
  }
  fs.writeFileSync(responses, Buffer.concat(answers));
  node.exit(0);
}, 100);
