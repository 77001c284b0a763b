//! Sans-IO WebSocket codec and TLS record layer, both ends. Knows no Hawser noun.
