// The page with its engine in a worker, and all that the engine needs in elements of the page.

import { openPage } from "./page.js";
import { WorkerEngine } from "./worker_engine.js";

const text = (id) => document.getElementById(id).textContent;

const run = JSON.parse(text("run"));
openPage(run, async () => {
  const parts = Array.from(document.querySelectorAll('[type^="application/gzip"]'), (part) => part.textContent);
  const engine = new WorkerEngine(text("worker"));
  await engine.open(run, parts);
  return engine;
});
