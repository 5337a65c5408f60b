// Shaded texts: a chosen token tells about itself, or shades the tokens that it looks back on.
for (const part of document.querySelectorAll(".shading")) {
  const text = part.querySelector(".shaded");
  const tokens = [...text.querySelectorAll(".token")];
  const says = part.querySelector(".says");
  const chooser = part.querySelector("select");
  const held = part.querySelector('script[type="application/json"]');
  const data = held && JSON.parse(held.textContent);
  let chosen = tokens.length - 1;

  const shown = (weight) => data.percent ? (weight / 10).toFixed(1) + " %"
    : (weight < 0 ? "−" : "+") + (Math.abs(weight) / 1000).toFixed(3) + " nats";

  function lookBack() {
    const weights = data.looks[chooser ? chooser.selectedIndex : 0][chosen];
    const most = Math.max(1, ...weights.map(Math.abs));
    tokens.forEach((token, at) => {
      const weight = weights[at] ?? 0;
      token.style.setProperty("--level", (Math.abs(weight) / most).toFixed(3));
      token.classList.toggle("less", weight < 0);
      token.classList.toggle("later", at > chosen);
    });
    const order = weights.map((_, at) => at).sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a]));
    const lines = order.slice(0, 5).map((at) => shown(weights[at]) + "  " + data.names[at]);
    return [data.rows[chosen], ...lines].join("\n");
  }

  function choose(at) {
    chosen = Math.min(Math.max(at, 0), tokens.length - 1);
    tokens.forEach((token, place) => token.classList.toggle("chosen", place === chosen));
    says.textContent = data ? lookBack() : tokens[chosen].dataset.says;
  }

  const keys = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };
  text.addEventListener("keydown", (event) => {
    const to = event.key === "Home" ? 0 : event.key === "End" ? tokens.length - 1
      : event.key in keys ? chosen + keys[event.key] : null;
    if (to === null) return;
    event.preventDefault();
    choose(to);
  });
  for (const kind of ["pointerover", "click"])
    text.addEventListener(kind, (event) => {
      const at = tokens.indexOf(event.target);
      if (at >= 0) choose(at);
    });
  chooser?.addEventListener("change", () => choose(chosen));
  if (data && tokens.length) choose(chosen);
}
