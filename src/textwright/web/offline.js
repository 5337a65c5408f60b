// The page with its engine in a worker, and all that the engine needs in elements of the page.

import { openPage } from "./page.js";
import { WorkerEngine } from "./worker_engine.js";

const textOf = (id) => document.getElementById(id).textContent;

const { engine: described, ...told } = JSON.parse(textOf("run"));
openPage({
  waiting: "Unpacking the model…",
  address: "http://127.0.0.1:8000", // of `textwright serve`, for the calls to copy
  privacy: "Nothing you type leaves this page.",
  runs: async () => [told],
  keyed: () => false,
  async openEngine() {
    const parts = Array.from(document.querySelectorAll('[type^="application/gzip"]'), (part) => part.textContent);
    const engine = new WorkerEngine(textOf("worker"));
    await engine.open(described, parts);
    return engine;
  },
});
