"""`make bots`: people and three kinds of attackers at one sale, with the gate off and on."""
