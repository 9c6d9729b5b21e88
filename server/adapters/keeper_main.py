"""The structure keeper: a process that holds all structures and answers on its standard streams until its parent is gone.

python -m server.adapters.keeper_main FILE LIVE_MOLECULES
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from rdkit import Chem

from encoder.molecules import MoleculeError
from encoder.patterns import matched_atoms, read_pattern
from server.adapters.keeper_messages import THREADS, Message, read_message, rows_of, texts_of, write_message
from server.adapters.structure_store import StructureStore
from server.adapters.structure_table import ID_BYTES, SKELETON_LETTERS, WORDS, TooSlowError
from server.observability.logs import configure_logs, report_crashes

Answer: TypeAlias = Message
Call: TypeAlias = Callable[[StructureStore, Message], Answer]


def _add(store: StructureStore, message: Message) -> Answer:
    ids, skeletons, morgan = (rows_of(message.parts[i], width) for i, width in enumerate((ID_BYTES, SKELETON_LETTERS, 8 * WORDS)))
    store.add(message.head["library"], ids, skeletons, morgan, texts_of(message.parts[3]))
    return Message({"generation": store.generation})


def _remove(store: StructureStore, message: Message) -> Answer:
    store.remove(rows_of(message.parts[0], ID_BYTES))
    return Message({})


def _remove_library(store: StructureStore, message: Message) -> Answer:
    store.remove_library(message.head["library"])
    return Message({})


def _renew(store: StructureStore, message: Message) -> Answer:
    store.renew()
    return Message({})


def _declare_complete(store: StructureStore, message: Message) -> Answer:
    store.declare_complete()
    return Message({})


def _containing(store: StructureStore, message: Message) -> Answer:
    head = message.head
    return Message({}, [store.containing(head["pattern"], head["libraries"], head["seconds"]).tobytes()])


def _contained_in(store: StructureStore, message: Message) -> Answer:
    head = message.head
    return Message({}, [store.contained_in(head["smiles"], head["libraries"], head["seconds"]).tobytes()])


def _with_skeleton(store: StructureStore, message: Message) -> Answer:
    return Message({}, [store.with_skeleton(message.head["skeleton"], message.head["libraries"]).tobytes()])


def _similar(store: StructureStore, message: Message) -> Answer:
    ids, scores = store.similar(message.parts[0], message.head["threshold"], message.head["libraries"])
    return Message({}, [ids.tobytes(), scores.tobytes()])


def _nearest(store: StructureStore, message: Message) -> Answer:
    ids, scores = store.nearest(message.parts[0], message.head["count"], message.head["libraries"])
    return Message({}, [ids.tobytes(), scores.tobytes()])


def _tanimoto(store: StructureStore, message: Message) -> Answer:
    return Message({}, [store.tanimoto(message.parts[0], rows_of(message.parts[1], ID_BYTES)).tobytes()])


def _matched_atoms(store: StructureStore, message: Message) -> Answer:
    pattern, deadline = read_pattern(message.head["pattern"]), time.monotonic() + message.head["seconds"]
    found = []
    for smiles in texts_of(message.parts[0]):
        if time.monotonic() > deadline:
            raise TooSlowError
        molecule = Chem.MolFromSmiles(smiles)
        found.append([] if molecule is None else matched_atoms(pattern, molecule))
    return Message({"atoms": found})


def _check_pattern(store: StructureStore, message: Message) -> Answer:
    return Message({"notation": read_pattern(message.head["pattern"]).notation})


def _count(store: StructureStore, message: Message) -> Answer:
    return Message({"count": store.count(message.head["library"])})


def _ids(store: StructureStore, message: Message) -> Answer:
    return Message({}, [store.ids(message.head["library"]).tobytes()])


def _generation(store: StructureStore, message: Message) -> Answer:
    return Message({"generation": store.generation, "complete": store.complete})


WRITES: Mapping[str, Call] = {
    "add": _add,
    "remove": _remove,
    "remove_library": _remove_library,
    "declare_complete": _declare_complete,
    "renew": _renew,
}
# An answer that lacks something would look like one that does not.
NEED_EVERYTHING = frozenset({"containing", "contained_in", "with_skeleton", "similar", "nearest"})
READS: Mapping[str, Call] = {
    "containing": _containing,
    "contained_in": _contained_in,
    "with_skeleton": _with_skeleton,
    "similar": _similar,
    "nearest": _nearest,
    "tanimoto": _tanimoto,
    "matched_atoms": _matched_atoms,
    "check_pattern": _check_pattern,
    "count": _count,
    "ids": _ids,
    "generation": _generation,
}


def answer(store: StructureStore, message: Message) -> Answer:
    """What a call returns, or its refusal under `error`."""
    call = message.head["call"]
    if call in NEED_EVERYTHING and not store.complete:
        filling = "The structure index is being filled from the database. Try again in a minute."
        return Message({"error": {"reason": "INDEX_UNAVAILABLE", "message": filling}})
    try:
        return (WRITES.get(call) or READS[call])(store, message)
    except MoleculeError as error:
        return Message({"error": {"reason": error.reason.value, "message": error.message}})
    except TooSlowError:
        return Message({"error": {"reason": "TIMEOUT", "message": ""}})
    except OSError as error:
        return Message({"error": {"reason": "INDEX_UNAVAILABLE", "message": f"the structure index cannot be written: {error.strerror}"}})
    except Exception as error:
        # The parent tells it on; structures stay out of it.
        return Message({"error": {"reason": "INTERNAL", "message": f"{call} failed: {type(error).__name__}"}})


def serve(store: StructureStore, questions: BinaryIO, answers: BinaryIO) -> None:
    """Returns when there are no more questions and all is written; answers that nobody waits for any more may be under way.

    Writes are done one after the other, in their order; everything else at the same time, by whichever thread read the question: handing it
    over would cost a small question as much as its answer.
    """
    reading, sending = threading.Lock(), threading.Lock()
    writer = ThreadPoolExecutor(1)

    def respond(message: Message) -> None:
        said = answer(store, message)
        with sending:
            write_message(answers, Message({**said.head, "id": message.head["id"]}, said.parts))

    def work() -> None:
        try:
            while True:
                with reading:
                    message = read_message(questions)
                    if message is None:
                        return
                    if message.head["call"] in WRITES:
                        # Still under the lock: writes keep their order.
                        writer.submit(respond, message)
                        continue
                respond(message)
        finally:
            # No question comes any more, or none can be understood or answered.
            ended.set()

    ended = threading.Event()
    for number in range(THREADS):
        threading.Thread(target=work, name=f"reader-{number}", daemon=True).start()
    ended.wait()
    writer.shutdown(wait=True)


def main(arguments: list[str]) -> None:
    """Serves the file named on the command line."""
    # As its parent does; reading all settings would make it start later.
    configure_logs(os.environ.get("ATOMAS_LOG_LEVEL", "info"), os.environ.get("ATOMAS_LOG_FORMAT", "text"))
    report_crashes()
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not reach the answers.
    os.dup2(2, 1)
    store = StructureStore(Path(arguments[0]), int(arguments[1]))
    ready: dict[str, Any] = {"id": 0, "generation": store.generation, "count": store.count(None)}
    write_message(answers, Message(ready))
    serve(store, sys.stdin.buffer, answers)
    store.close()
    # Python would wait for its threads, and one may sit in a match that never ends.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
