//! Each older system, said as ours.
