// The last hour of one account, in steps: what the gateway said at first, continued by what is heard since.

/** Steps in an hour. */
const steps = (recent) => Math.round(3600 / recent.every_s);

/** What `next` has more than `known` counts for the step under way. */
export function take(known, next) {
  const recent = of(known);
  const more = (name) => Math.max(0, (next[name] ?? 0) - (known[name] ?? 0));
  recent.successes[recent.successes.length - 1] += more("successes");
  recent.failures[recent.failures.length - 1] += more("failures");
}

/** Begins a new step for each account whose last one is over. */
export function roll(accounts, now = Date.now()) {
  for (const account of accounts) {
    const recent = of(account, now);
    while (now >= recent.ends) {
      for (const list of [recent.successes, recent.failures]) {
        list.push(0);
        if (list.length > steps(recent)) list.shift();
      }
      recent.ends += recent.every_s * 1000;
      // A page that slept need not go through all it missed.
      if (now - recent.ends > 3_600_000) recent.ends = now + recent.every_s * 1000;
    }
  }
}

function of(account, now = Date.now()) {
  const recent = (account.recent ??= { every_s: 120, successes: [], failures: [] });
  recent.ends ??= now + recent.every_s * 1000;
  if (!recent.successes.length) {
    recent.successes.push(0);
    recent.failures.push(0);
  }
  return recent;
}

/** The share of successes in what is known of the last hour; null if there was nothing. */
export function success(account) {
  const sum = (list) => (list ?? []).reduce((a, b) => a + b, 0);
  const good = sum(account.recent?.successes);
  const all = good + sum(account.recent?.failures);
  return all ? good / all : null;
}
