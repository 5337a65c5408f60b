// The page over the server that it comes from.

import { openPage } from "./page.js";
import { ServerEngine } from "./server_engine.js";

const server = new ServerEngine();
openPage({
  waiting: "Asking the server…",
  address: location.origin,
  privacy: "What you type goes to the server of this page, and nowhere else.",
  runs: () => server.runs(),
  openEngine: async () => server,
  useKey: (key) => server.useKey(key),
  keyed: () => server.keyed,
});
