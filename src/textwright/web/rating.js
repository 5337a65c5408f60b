// Blind ratings of pairs of texts, counted. No part of a page is touched here.
//
// A side is {run, options}: the run's name, and the sampling options that it wrote with. A rating is
// {sides, prompt, seed, texts, first, better}: two sides and what each wrote; first: the side that was
// shown first, 0 or 1; better: the side whose text was chosen, or null where none could be.

const CONFIDENCE = 0.95;

/**
 * What ratings say of each pair of sides, in whatever order it was rated: {sides, better, ties, share,
 * interval}. better: how often each side was chosen · share: that of the first side among the answers
 * that chose one, with its interval; null if none did.
 */
export function countRatings(ratings) {
  const found = new Map();
  for (const { sides, better } of ratings) {
    const keys = sides.map((side) => sideKey(side));
    const turned = keys[0] > keys[1];
    const pair = JSON.stringify(turned ? keys.toReversed() : keys);
    if (!found.has(pair)) found.set(pair, { sides, turned, better: [0, 0], ties: 0 });
    const result = found.get(pair);
    if (better === null) result.ties++;
    else result.better[turned === result.turned ? better : 1 - better]++;
  }
  return Array.from(found.values(), ({ sides, better, ties }) => {
    const chosen = better[0] + better[1];
    const share = chosen ? better[0] / chosen : null;
    return { sides, better, ties, share, interval: exactInterval(better[0], chosen) };
  });
}

/** The same text for the same run and options. */
function sideKey({ run, options }) {
  return JSON.stringify([run, Object.entries(options).sort(([one], [other]) => (one < other ? -1 : 1))]);
}

/**
 * The interval of a share, given its successes and trials: the shares under which neither so many
 * successes nor so few would have a probability below 2.5 % (Clopper & Pearson 1934). It misses the
 * true share in at most 5 % of all experiments, however few the trials.
 */
export function exactInterval(successes, trials) {
  const tail = (1 - CONFIDENCE) / 2;
  const low = successes && shareAt((share) => atLeastSo(successes, trials, share) < tail);
  const high = successes < trials ? shareAt((share) => 1 - atLeastSo(successes + 1, trials, share) > tail) : 1;
  return [low, high];
}

/** The share up to which a condition holds. */
function shareAt(holds) {
  let [low, high] = [0, 1];
  for (let halving = 0; halving < 50; halving++) {
    const middle = (low + high) / 2;
    if (holds(middle)) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** The probability of so many successes or more. */
function atLeastSo(successes, trials, share) {
  let [sum, logChoices] = [0, 0];
  for (let count = 0; count <= trials; count++) {
    if (count) logChoices += Math.log((trials - count + 1) / count);
    if (count < successes) continue;
    sum += Math.exp(logChoices + count * Math.log(share) + (trials - count) * Math.log1p(-share));
  }
  return sum;
}

/** The side to be shown first. */
export function drawFirst() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1;
}

/** The document that is kept of ratings: all of each, and what they say. */
export function ratingsDocument(ratings) {
  return { format: "textwright ratings", version: 1, confidence: CONFIDENCE, results: countRatings(ratings), ratings };
}
