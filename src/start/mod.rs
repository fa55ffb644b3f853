//! What a container runtime's call comes to: every other room, in order.
