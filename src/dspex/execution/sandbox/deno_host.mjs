// The process of the sandbox "deno": it loads Pyodide and serves one session on stdin and stdout.
//
// `deno.py` starts it. It reads lines of JSON and answers each with one; a call of a tool is a line
// in between. Everything is synchronous, so that code can wait for the host in the middle of a call.
// The boundary is the permissions of deno, which the code cannot change: whoever takes over this
// script can read the files of Pyodide and write to stdout.

const FOLDER = "/data";
const PAGE = 64 * 1024;
const [pyodidePath, runnerText, snapshotPath, mode] = Deno.args;
const decoder = new TextDecoder();
const encoder = new TextEncoder();
const chunk = new Uint8Array(PAGE);
let pending = new Uint8Array(0);

function readLine() {
  const parts = [];
  let size = 0;
  for (;;) {
    const end = pending.indexOf(10);
    const part = end < 0 ? pending : pending.subarray(0, end);
    parts.push(part);
    size += part.length;
    if (end >= 0) {
      pending = pending.slice(end + 1);
      break;
    }
    const count = Deno.stdin.readSync(chunk);
    if (count === null) Deno.exit(0); // the host has gone
    pending = chunk.slice(0, count);
  }
  const line = new Uint8Array(size);
  let place = 0;
  for (const part of parts) {
    line.set(part, place);
    place += part.length;
  }
  return decoder.decode(line);
}

function writeLine(text) {
  const bytes = encoder.encode(text + "\n");
  for (let place = 0; place < bytes.length; ) place += Deno.stdout.writeSync(bytes.subarray(place));
}

function exchange(text) {
  writeLine(text);
  return readLine();
}

// A module of WebAssembly grows its memory by this method; a refusal is a MemoryError in Python.
let maximum = Infinity;
const grow = WebAssembly.Memory.prototype.grow;
WebAssembly.Memory.prototype.grow = function (pages) {
  if (this.buffer.byteLength + pages * PAGE > maximum) throw new RangeError("memory limit");
  return grow.call(this, pages);
};

function limitFiles(python, limit) {
  const { FS } = python;
  const stream = FS.filesystems.MEMFS.ops_table.file.stream;
  const write = stream.write;
  let written = 0;
  stream.write = function (file, buffer, offset, length, ...rest) {
    written += length;
    if (written > limit) throw new FS.ErrnoError(51); // ENOSPC
    return write.call(this, file, buffer, offset, length, ...rest);
  };
  return () => {
    written = 0;
  };
}

function writeFiles(FS, files) {
  FS.mkdirTree(FOLDER);
  for (const [name, content] of Object.entries(files)) {
    FS.writeFile(`${FOLDER}/${name}`, Uint8Array.fromBase64(content));
  }
  FS.chdir(FOLDER);
}

function readFiles(FS, limit) {
  const files = {};
  for (const name of FS.readdir(FOLDER).sort().slice(0, 102)) {
    const status = FS.lstat(`${FOLDER}/${name}`);
    if (!FS.isFile(status.mode) || status.size > limit) continue;
    limit -= status.size;
    files[name] = FS.readFile(`${FOLDER}/${name}`).toBase64();
  }
  return files;
}

const { loadPyodide } = await import(`file://${pyodidePath}/pyodide.mjs`);
const snapshot = {
  make: () => ({ _makeSnapshot: true }),
  load: () => ({ _loadSnapshot: Deno.readFileSync(snapshotPath) }),
  none: () => ({}),
};
const python = await loadPyodide({
  ...snapshot[mode](),
  indexURL: pyodidePath,
  jsglobals: {},
  env: { HOME: FOLDER },
  stdin: () => null,
  stdout: () => {},
  stderr: () => {},
});
if (mode === "make") {
  // no code of a session ever runs in this process
  python.runPython("import ast, contextlib, io, json, random, traceback");
  Deno.writeFileSync(snapshotPath, python.makeMemorySnapshot());
  Deno.exit(0);
}
python.runPython("import random; random.seed()"); // a snapshot has one state for all
const runner = python.toPy({});
python.runPython(runnerText, { globals: runner });
writeLine(JSON.stringify({ ready: python.version }));

const options = JSON.parse(readLine());
writeFiles(python.FS, options.files);
maximum = python._module.HEAP8.length + options.memory;
const startRun = limitFiles(python, options.size);
const session = runner.get("CodeRunner")(python.toPy(options.tools), options.output, exchange);
for (;;) {
  const request = readLine();
  startRun();
  const answer = session.run(request);
  const files = JSON.stringify(readFiles(python.FS, options.size));
  writeLine(`${answer.slice(0, -1)}, "files": ${files}}`);
}
