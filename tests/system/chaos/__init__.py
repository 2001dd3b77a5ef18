"""The chaos run: real processes, broken on purpose, until a model says what must have come out.

``python -m tests.system.chaos --rounds 30 --seed 7``. A seed replays the plan; how the
processes interleave can't be replayed.

It follows every resource; some are switched on only while all goes on. At the end, each table is
compared row by row with what the fake WorkOS holds.

Once all is quiet, everything has a few minutes to come right by itself, but for what no event
says, and that alone is judged after ``manage.py reconcile_workos``:

- names that another program overwrote in the table (those of organizations that are gone stay so);
- changes of other resources without an event, such as a connection's new name;
- organizations whose ``external_id`` went to another one, and with it their row, and that no event
  has mentioned since.

What a run leaves out: an ``external_id`` that moves to an organization that has a row already,
which is a conflict for a person; a page of events that says falsely that it is the last; events of
organizations that move or are deleted, held back for longer than the mirror waits for them.
"""
