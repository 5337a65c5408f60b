// Lists that states share: each state owns the first `count` entries, and adding one for a state that
// is not the newest copies them first, so a text can go on from any of its states.

export function appended(list, count, entry) {
  const own = list.length > count ? list.slice(0, count) : list;
  own.push(entry);
  return own;
}
