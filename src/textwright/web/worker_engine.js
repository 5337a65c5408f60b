// The calls of engine.js, answered by a worker that runs it.

export class WorkerEngine {
  constructor(script) {
    if (typeof Worker === "undefined") {
      throw new Error("This browser has no workers, which the page writes with; use a newer one.");
    }
    this.asked = 0;
    this.answers = new Map(); // by number of the call: what takes its answer
    this.worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
    this.worker.onmessage = ({ data }) => this.answers.get(data.number)?.(data);
    this.worker.onerror = ({ message }) => {
      const error = message || "The worker could not be started.";
      for (const take of [...this.answers.values()]) take({ error });
    };
  }

  open(described, parts) {
    return this.ask("open", { described, parts });
  }

  tokenize(request) {
    return this.ask("tokenize", request);
  }

  alternatives(request) {
    return this.ask("alternatives", request);
  }

  inside(request) {
    return this.ask("inside", request);
  }

  async *write(request, signal) {
    const batches = [];
    let arrived = () => {};
    const number = this.send("write", request, (answer) => {
      batches.push(answer);
      arrived();
    });
    const stop = () => arrived();
    signal?.addEventListener("abort", stop);
    try {
      for (;;) {
        while (!batches.length && !signal?.aborted) await new Promise((resolve) => (arrived = resolve));
        if (signal?.aborted) return;
        const { tokens, done, error } = batches.shift();
        if (error) throw new Error(error);
        yield* tokens;
        if (done) return;
        this.ask("more", number);
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.answers.delete(number);
      this.ask("end", number);
    }
  }

  ask(call, argument) {
    return new Promise((resolve, reject) => {
      const number = this.send(call, argument, ({ error, result }) => {
        this.answers.delete(number);
        if (error) reject(new Error(error));
        else resolve(result);
      });
    });
  }

  send(call, argument, take) {
    const number = this.asked++;
    this.answers.set(number, take);
    this.worker.postMessage({ number, call, argument });
    return number;
  }
}
