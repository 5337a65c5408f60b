// The calls of engine.js, answered by a worker that runs it.

export class WorkerEngine {
  constructor(script) {
    if (typeof Worker === "undefined") {
      throw new Error("This browser has no workers, which the page writes with; use a newer one.");
    }
    this.worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
    this.waiting = [];
    this.worker.onmessage = ({ data }) => this.settle(data);
    this.worker.onerror = ({ message }) => this.settle({ error: message || "The worker could not be started." });
  }

  open(run, parts) {
    return this.ask("open", { run, parts });
  }

  tokenize(text) {
    return this.ask("tokenize", text);
  }

  start(request) {
    return this.ask("start", request);
  }

  next() {
    return this.ask("next");
  }

  choose(id = null) {
    return this.ask("choose", id);
  }

  ask(call, argument) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.worker.postMessage({ call, argument });
    });
  }

  settle({ error, result }) {
    const { resolve, reject } = this.waiting.shift() ?? {};
    if (error) reject?.(new Error(error));
    else resolve?.(result);
  }
}
