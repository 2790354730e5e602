//! Whatever keys ask for, and whenever: no account has more keys than it may have, and a key holds
//! one slot at most.
