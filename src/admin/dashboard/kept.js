// What this browser remembers between visits: language, theme, small choices. Never a token, never a key.

const PREFIX = "poolgate.";

export function kept(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // Storage may be forbidden; then nothing is remembered.
  }
}

export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // As above.
  }
}
