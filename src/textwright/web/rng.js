// The random numbers of a text: those of numpy.random.Generator(Philox(key=[seed, 0])).random().
// Philox 4x64, 10 rounds (Salmon et al. 2011).

const WORD = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const KEY_STEPS = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/** The four 64-bit words of one block. */
function philox(block, seed) {
  let words = [block, 0n, 0n, 0n];
  let keys = [seed, 0n]; // 0: the first text of its prompt
  for (let round = 0; round < 10; round++) {
    const one = MULTIPLIERS[0] * words[0];
    const other = MULTIPLIERS[1] * words[2];
    words = [
      (other >> 64n) ^ words[1] ^ keys[0],
      other & WORD,
      (one >> 64n) ^ words[3] ^ keys[1],
      one & WORD,
    ];
    keys = keys.map((key, place) => (key + KEY_STEPS[place]) & WORD);
  }
  return words;
}

/** The uniform numbers of one text; seed: a BigInt below 2^64. */
export class Uniforms {
  constructor(seed) {
    this.seed = seed;
    this.block = -1;
  }

  /** The number in [0, 1) that belongs to the new token at this place. */
  at(place) {
    const block = place >> 2;
    if (block !== this.block) {
      this.words = philox(BigInt(block + 1), this.seed); // NumPy counts first
      this.block = block;
    }
    return Number(this.words[place & 3] >> 11n) * 2 ** -53;
  }
}
