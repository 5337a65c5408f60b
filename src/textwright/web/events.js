// The events that a server sends, each a JSON document, until "[DONE]".

const GONE = "The server went away in mid-text; what is shown stays. Start it again, then write again.";

export async function* readEvents(body) {
  let held = "";
  for await (const text of chunks(body.pipeThrough(new TextDecoderStream()))) {
    const lines = (held + text).split("\n\n");
    held = lines.pop(); // it may go on
    for (const line of lines) {
      const content = line.replace(/^data: /, "");
      if (content === "[DONE]") return;
      yield JSON.parse(content);
    }
  }
  throw new Error("The server ended the text before its end.");
}

async function* chunks(stream) {
  const reader = stream.getReader(); // not every browser iterates over a stream
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new Error(GONE);
      });
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // the server ends what is not read
  }
}
