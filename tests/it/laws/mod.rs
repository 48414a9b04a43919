//! What holds for every method and every conversation, whatever happens meanwhile.

mod order;
