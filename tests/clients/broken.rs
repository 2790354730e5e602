//! What the vendors' clients make of an answer that breaks: an error of their own, never a silent end.
