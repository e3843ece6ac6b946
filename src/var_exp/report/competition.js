"use strict";
// Class competition (VAR) in the page: the arithmetic of `var_exp.refine.var`, and no more.
// Maps are flat arrays [K classes][C channels][P pixels], raw and signed.
const Competition = (() => {
  const magnitudes = { abs: Math.abs, signed: (a) => a, positive: (a) => Math.max(a, 0) };

  /** Numbers of IEEE half precision, given as 16-bit words, times a unit. */
  function fromHalves(words, unit) {
    return Float64Array.from(words, (word) => {
      const exponent = (word >> 10) & 31;
      const fraction = word & 1023;
      const sign = word >> 15 ? -unit : unit;
      if (exponent === 31) return fraction ? NaN : sign * Infinity;
      return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
    });
  }

  /** The channels added: [K][1][P]. */
  function summed(maps, [K, C, P]) {
    const sums = new Float64Array(K * P);
    for (let k = 0; k < K; k++)
      for (let c = 0; c < C; c++)
        for (let p = 0; p < P; p++) sums[k * P + p] += maps[(k * C + c) * P + p];
    return sums;
  }

  /**
   * The number for each class's map by which what competes is divided: the largest |A| or the root
   * mean square of all maps of a picture, or the latter of each map. `sizes` has both of each class's
   * whole map, of which the page may hold a part.
   */
  function unitsOf(sizes, scale) {
    if (scale === "none") return sizes.map(() => 1);
    const own = scale === "max" ? "max" : "rms";
    const owns = sizes.map((one) => Number(one[own])); // "Infinity" and "NaN" are words in JSON
    const orOne = (size) => (size === 0 ? 1 : size);
    if (scale === "class_rms") return owns.map(orOne);
    let size = 0;
    for (const one of owns)
      size = scale === "rms" ? size + one * one : one > size || Number.isNaN(one) ? one : size;
    if (scale === "rms") size = Math.sqrt(size / sizes.length);
    return sizes.map(() => orOne(size));
  }

  /**
   * Shares M_c = exp(T m(A_c)) / sum_k exp(T m(A_k)) and what is kept, A_c M_c [M_c - 1/K > tau].
   * `sizes`: { separate, sum }, of each class's whole map { max, rms }; see `unitsOf`.
   * Returns { shares, kept }, both [K][c][P]; c is 1 where channels are summed.
   */
  function compete(maps, [K, C, P], sizes, { temperature, tau, scale, magnitude, channels }) {
    const c = channels === "sum" ? 1 : C;
    const values = channels === "sum" ? summed(maps, [K, C, P]) : maps;
    const places = c * P;
    const units = unitsOf(sizes[channels], scale);
    const strength = magnitudes[magnitude];
    const shares = new Float64Array(K * places);
    const kept = new Float64Array(K * places);
    for (let place = 0; place < places; place++) {
      let top = -Infinity;
      for (let k = 0; k < K; k++) {
        const heat = temperature * (strength(values[k * places + place]) / units[k]);
        shares[k * places + place] = heat;
        if (heat > top) top = heat;
      }
      let total = 0;
      for (let k = 0; k < K; k++) {
        const raised = Math.exp(shares[k * places + place] - top);
        shares[k * places + place] = raised;
        total += raised;
      }
      for (let k = 0; k < K; k++) {
        const i = k * places + place;
        shares[i] /= total;
        kept[i] = values[i] * shares[i] * (shares[i] - 1 / K > tau ? 1 : 0);
      }
    }
    return { shares, kept, channels: c };
  }

  /** Mean over the channels of shares [K][c][P], with the winner (-1: shared) and the entropy. */
  function distribution(shares, [K, c, P]) {
    const mean = summed(shares, [K, c, P]).map((share) => share / c);
    const winner = new Int16Array(P);
    const entropy = new Float64Array(P);
    for (let p = 0; p < P; p++) {
      let best = -Infinity;
      for (let k = 0; k < K; k++) {
        const share = mean[k * P + p];
        if (share > best) {
          best = share;
          winner[p] = k;
        } else if (share === best) winner[p] = -1;
        if (share > 0) entropy[p] -= share * Math.log(share);
      }
    }
    return { mean, winner, entropy };
  }

  /** Share of the positive part of a map [P] that lies in its region; NaN for nothing positive. */
  function inside(map, region) {
    let [within, all] = [0, 0];
    for (let p = 0; p < map.length; p++) {
      const positive = Math.max(map[p], 0);
      all += positive;
      if (region[p]) within += positive;
    }
    return within / all;
  }

  return { fromHalves, summed, compete, distribution, inside };
})();
