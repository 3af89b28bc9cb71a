/* How units move between the buckets of a sale (docs/adr/0044), for Spin, which visits every state.
 *
 * Each step of a script is atomic, as in Redis; everything between two steps may happen in any order.
 * A replica may stop after any step and forget all it knew, and repeat any step. A bucket may lose all
 * that it had; the sale is then rebuilt, also by two replicas at once. What replicas of Redis have
 * confirmed is not lost by a failover, so that changes no state here.
 *
 * -DBUCKETS, -DTOTAL, -DMOVES (transfers that each of two replicas starts), -DLOSSES, -DREBUILDS,
 * -DRETURNS, -DLOOKS (questions whether all is sold out) bound it. -DBUG_… plant a bug each.
 */
#ifndef BUCKETS
#define BUCKETS 2
#endif
#ifndef TOTAL
#define TOTAL 2
#endif
#ifndef MOVES
#define MOVES 2
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef REBUILDS
#define REBUILDS 0
#endif
#ifndef RETURNS
#define RETURNS 1
#endif
#ifndef LOOKS
#define LOOKS 1
#endif
#define MOVERS 2
#define PAIR(l, b) ((l) * BUCKETS + (b))

/* In Redis, of each bucket. Epoch 0: not loaded. */
byte epoch[BUCKETS], stock[BUCKETS], floor[BUCKETS], outbox[BUCKETS];
byte out_number[BUCKETS * BUCKETS], out_units[BUCKETS * BUCKETS], in_number[BUCKETS * BUCKETS];
/* In the database: units of orders, and the epoch that was raised last. */
byte orders, db_epoch = 1;
byte losses, returns, done;
/* Whether something is lost that no rebuild has counted yet. */
bit is_lossy;
/* Fewest units that were free since the look began: for the claim about "sold out". */
byte fewest;

/* Counters of the inlines below: 0 between their runs, so that they are no part of a state. */
byte c_at, c_to, c_free, c_promised;
bit c_whole;

/* c_free: units in buckets, and on their way to one that can still take them. */
inline count_free() {
  c_free = 0;
  for (c_at : 0 .. BUCKETS - 1) {
    c_free = c_free + stock[c_at];
    for (c_to : 0 .. BUCKETS - 1) {
      if
      :: epoch[c_at] && epoch[c_to] == epoch[c_at] && out_units[PAIR(c_at, c_to)] &&
         in_number[PAIR(c_at, c_to)] < out_number[PAIR(c_at, c_to)] ->
         c_free = c_free + out_units[PAIR(c_at, c_to)]
      :: else
      fi
    }
  }
}

/* Never more units than there are: on sale, on their way, promised, and sold. All of them whenever
 * all buckets are loaded. */
inline check() {
  count_free();
  c_promised = 0; c_whole = 1;
  for (c_at : 0 .. BUCKETS - 1) {
    c_promised = c_promised + outbox[c_at];
    if
    :: epoch[c_at] == 0 || epoch[c_at] != epoch[0] -> c_whole = 0
    :: else
    fi
  }
  assert(c_free + c_promised + orders <= TOTAL);
  assert(!c_whole || is_lossy || c_free + c_promised + orders == TOTAL);
  if
  :: c_free < fewest -> fewest = c_free
  :: else
  fi;
  c_at = 0; c_to = 0; c_free = 0; c_promised = 0; c_whole = 0
}

/* One of two inventories: lend.lua, take.lua, settle.lua. */
proctype Mover() {
  byte moves, lender, borrower, seen, number, units, pair;
  do
  :: moves == MOVES -> break
  :: moves < MOVES ->
     moves++;
     select(lender : 0 .. BUCKETS - 1);
     select(borrower : 0 .. BUCKETS - 1);
     if
     :: lender == borrower -> goto again
     :: else
     fi;
     pair = PAIR(lender, borrower);
     seen = epoch[borrower];
     if
     :: seen == 0 -> goto again
     :: else
     fi;
     atomic { /* lend: what is on record, or half of the stock, or one unit */
       number = 0; units = 0;
       if
       :: epoch[lender] == seen && out_units[pair] ->
          number = out_number[pair]; units = out_units[pair]
       :: epoch[lender] == seen && !out_units[pair] && stock[lender] ->
          units = (stock[lender] > 1 -> stock[lender] / 2 : 1);
          stock[lender] = stock[lender] - units;
          out_number[pair]++;
          number = out_number[pair];
          out_units[pair] = units
       :: else
       fi;
       check()
     }
     if
     :: units == 0 -> goto again
     :: units -> skip
     :: units -> goto again /* it stops here, or the reply is lost */
     fi;
#ifdef BUG_SETTLE_FIRST
     atomic {
       if
       :: epoch[lender] == seen && out_number[pair] == number -> out_units[pair] = 0
       :: else
       fi;
       check()
     }
#endif
take:
     atomic {
       if
#ifdef BUG_NO_EPOCH
       :: epoch[borrower] &&
#else
       :: epoch[borrower] == seen &&
#endif
#ifdef BUG_TAKE_TWICE
          1 ->
#else
          in_number[pair] < number ->
#endif
          stock[borrower] = stock[borrower] + units;
          in_number[pair] = number
       :: epoch[borrower] != seen -> units = 0
       :: else
       fi;
       check()
     }
     if
     :: units == 0 -> goto again
     :: units -> skip
     :: units -> goto take /* its reply was lost */
     :: units -> goto again /* it stops here */
     fi;
     atomic { /* settle */
       if
#ifdef BUG_SETTLE_ANY_EPOCH
       :: out_number[pair] == number -> out_units[pair] = 0
#else
       :: epoch[lender] == seen && out_number[pair] == number -> out_units[pair] = 0
#endif
       :: else
       fi;
       check()
     }
again:
     skip;
     d_step { lender = 0; borrower = 0; seen = 0; number = 0; units = 0; pair = 0 }
  od;
  done++
}

/* Buyers of each bucket, the relay and the order service; and units that come back. */
active proctype Sales() {
  byte home;
end:
  do
  :: atomic {
       select(home : 0 .. BUCKETS - 1);
       if
       :: epoch[home] && stock[home] -> stock[home]--; outbox[home]++
       :: outbox[home] -> outbox[home]--; orders++
       :: epoch[home] && orders && returns < RETURNS -> orders--; returns++; stock[home]++
       :: else
       fi;
       home = 0;
       check()
     }
  od
}

/* A bucket loses what it had, its reservations on their way too. */
active proctype Loss() {
  byte which, to;
end:
  do
  :: losses < LOSSES ->
     atomic {
       select(which : 0 .. BUCKETS - 1);
       losses++; is_lossy = 1;
       epoch[which] = 0; stock[which] = 0; floor[which] = 0; outbox[which] = 0;
       for (to : 0 .. BUCKETS - 1) {
         out_number[PAIR(which, to)] = 0; out_units[PAIR(which, to)] = 0;
         in_number[PAIR(to, which)] = 0
       }
       which = 0; to = 0;
       check()
     }
  :: else -> break
  od
}

/* A rebuild: raise the epoch, bar every bucket, await what was promised, count, deal out. */
proctype Rebuild() {
  byte mine, home, other, free, share;
  bit lost;
end:
  losses > 0;
  d_step {
    lost = 0;
    for (home : 0 .. BUCKETS - 1) {
      if
      :: epoch[home] == 0 || epoch[home] != epoch[0] -> lost = 1
      :: else
      fi
    }
    home = 0
  }
  if
  :: lost
  :: else -> goto finished
  fi;
  atomic { db_epoch++; mine = db_epoch }
  home = 0;
  do
  :: home == BUCKETS -> break
  :: home < BUCKETS ->
     atomic {
       if
       :: epoch[home] >= mine || floor[home] > mine -> goto finished
#ifdef BUG_NO_BAR
       :: else -> skip
#else
       :: else -> epoch[home] = 0; stock[home] = 0; floor[home] = mine
#endif
       fi;
       home++;
       check()
     }
  od;
  /* The outboxes are empty: all that was promised is an order. The snapshot refuses an older epoch. */
  home = 0;
  do
  :: home == BUCKETS -> break
  :: home < BUCKETS -> outbox[home] == 0; home++
  od;
  atomic {
    if
    :: db_epoch != mine -> goto finished
    :: else -> free = TOTAL - orders
    fi
  }
  home = 0;
  do
  :: home == BUCKETS -> break
  :: home < BUCKETS ->
     atomic {
       share = free / BUCKETS + (home < free % BUCKETS -> 1 : 0);
       if
       :: epoch[home] || mine < floor[home] -> goto finished
       :: else ->
          epoch[home] = mine; stock[home] = share; floor[home] = mine;
          for (other : 0 .. BUCKETS - 1) {
            out_number[PAIR(home, other)] = 0; out_units[PAIR(home, other)] = 0;
            in_number[PAIR(other, home)] = 0
          }
          other = 0
       fi;
       home++;
       share = 0;
       if
       :: home == BUCKETS -> is_lossy = 0
       :: else
       fi;
       check()
     }
  od;
finished:
  done++
}

/* Is all sold out? Each bucket as of a moment of its own, and all of them twice. */
proctype Look() {
  byte at, to, round, sum;
  byte saw_out[BUCKETS * BUCKETS], saw_in[BUCKETS * BUCKETS], saw_epoch[BUCKETS];
  byte now_number[BUCKETS * BUCKETS], now_units[BUCKETS * BUCKETS], now_in[BUCKETS * BUCKETS];
  bit still = 1;
  d_step { fewest = TOTAL; check() }
  do
  :: round == 2 -> break
  :: round < 2 ->
     sum = 0; at = 0;
     do
     :: at == BUCKETS -> break
     :: at < BUCKETS ->
        d_step {
          still = still && (round == 0 || saw_epoch[at] == epoch[at]) && epoch[at];
          saw_epoch[at] = epoch[at];
          for (to : 0 .. BUCKETS - 1) {
            now_number[PAIR(at, to)] = out_number[PAIR(at, to)];
            now_units[PAIR(at, to)] = out_units[PAIR(at, to)];
            now_in[PAIR(to, at)] = in_number[PAIR(to, at)];
            still = still && (round == 0 || saw_out[PAIR(at, to)] == out_number[PAIR(at, to)]);
            still = still && (round == 0 || saw_in[PAIR(to, at)] == in_number[PAIR(to, at)]);
            saw_out[PAIR(at, to)] = out_number[PAIR(at, to)];
            saw_in[PAIR(to, at)] = in_number[PAIR(to, at)]
          }
#ifndef BUG_STOCK_LATER
          sum = sum + stock[at];
          at++;
#endif
          to = 0
        }
#ifdef BUG_STOCK_LATER
        atomic { sum = sum + stock[at]; at++ }
#endif
     od;
     skip;
     d_step {
       for (at : 0 .. BUCKETS * BUCKETS - 1) {
         if
         :: now_units[at] && now_in[at] < now_number[at] -> sum = sum + now_units[at]
         :: else
         fi
       }
       at = 0
     }
     if
     :: sum -> goto not_sold_out
     :: else
     fi;
     round++;
#ifdef BUG_ONE_LOOK
     break
#endif
  od;
  /* Told as sold out only if it was, at a moment since the question. */
  assert(!still || saw_epoch[0] != saw_epoch[BUCKETS - 1] || fewest == 0);
not_sold_out:
  done++
}

/* When all is quiet, a bucket gathers every unit that there is: none is stranded. */
proctype Gather() {
  byte at, home, steps, l, b;
  done == MOVERS + REBUILDS + LOOKS || timeout;
  d_step {
    for (at : 0 .. BUCKETS - 1) {
      if
      :: epoch[at] == 0 || epoch[at] != epoch[0] -> steps = 255 /* lost: it is rebuilt first */
      :: else
      fi
    }
    count_free();
    do
    :: steps >= BUCKETS * BUCKETS * (TOTAL + 1) -> break
    :: else ->
       /* The transfer that Borrower makes next: to home, else from a bucket with units, else any. */
       l = BUCKETS; b = BUCKETS;
       for (at : 0 .. BUCKETS * BUCKETS - 1) {
         if
         :: out_units[at] && in_number[at] < out_number[at] -> l = at / BUCKETS; b = at % BUCKETS
         :: else
         fi
       }
       for (at : 1 .. BUCKETS - 1) {
         if
         :: stock[at] -> l = at; b = home
         :: else
         fi
       }
       if
       :: l == BUCKETS -> break
       :: else
       fi;
       at = PAIR(l, b);
       if
       :: !out_units[at] && stock[l] ->
          out_units[at] = stock[l]; out_number[at]++; stock[l] = 0
       :: else
       fi;
       if
       :: in_number[at] < out_number[at] ->
          stock[b] = stock[b] + out_units[at]; in_number[at] = out_number[at]
       :: else
       fi;
       out_units[at] = 0;
       steps++
    od;
    assert(steps == 255 || stock[home] == c_free);
    c_at = 0; c_to = 0; c_free = 0
  }
}

init {
  byte at;
  atomic {
    for (at : 0 .. BUCKETS - 1) {
      epoch[at] = 1;
      floor[at] = 1;
      stock[at] = TOTAL / BUCKETS + (at < TOTAL % BUCKETS -> 1 : 0)
    }
    at = 0;
    fewest = TOTAL;
    run Mover(); run Mover();
    do
    :: at < REBUILDS -> run Rebuild(); at++
    :: else -> break
    od;
    at = 0;
    do
    :: at < LOOKS -> run Look(); at++
    :: else -> break
    od;
    run Gather()
  }
}
