"""A small corpus in which people ask with names that the documents never use.

Staff call each device by a nickname; the manual calls it what it is. A base model cannot know the
nicknames. An adapter learns them from some questions, and is asked others.
"""

from __future__ import annotations

from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

DEVICES = {
    "Falcon": "label printer",
    "Osprey": "document scanner",
    "Heron": "coffee machine",
    "Kestrel": "badge reader",
    "Merlin": "video projector",
    "Condor": "parcel scale",
}
TOPICS = {
    "restart": (
        "To restart the {}, hold the power button for ten seconds. It beeps twice when ready."
    ),
    "clean": ("Clean the {} with a dry cloth every Friday. Never use alcohol on the outer casing."),
    "light": (
        "A red light on the {} reports an error. Read the code on its side and call the desk."
    ),
    "parts": (
        "Spare parts for the {} are in cabinet four. Order new ones from the purchasing office."
    ),
    "warranty": (
        "The warranty of the {} lasts two years. Repairs within that time are free of charge."
    ),
    "move": (
        "Two people are needed to carry the {} to another room. Unplug every cable beforehand."
    ),
}
WORDINGS = {
    "restart": ("How do I reboot the {}?", "The {} hangs, how is it switched off and on?"),
    "clean": ("What do I wipe the {} with?", "How is dust removed from the {}?"),
    "light": ("Why does the {} blink red?", "The {} shows an error, what now?"),
    "parts": ("Where do I get a spare for the {}?", "I need a replacement piece of the {}"),
    "warranty": ("Who pays for a repair of the {}?", "How long is the {} under guarantee?"),
    "move": ("How do we carry the {} elsewhere?", "May I take the {} to the next room alone?"),
}
# One topic of each device that no training question is about.
UNSEEN = tuple(zip(DEVICES, TOPICS, strict=True))

PASSAGES = {
    f"{topic} {device}": text.format(device)
    for device in DEVICES.values()
    for topic, text in TOPICS.items()
}
MANUALS = {
    device: "\n\n".join(PASSAGES[f"{topic} {device}"] for topic in TOPICS)
    for device in DEVICES.values()
}


def training_questions() -> EmbeddingQAFinetuneDataset:
    """Two wordings of every question whose device and topic are not among the unseen ones."""
    asked = {
        f"{nickname} {topic} {number}": (wording.format(nickname), f"{topic} {device}")
        for nickname, device in DEVICES.items()
        for topic, wordings in WORDINGS.items()
        for number, wording in enumerate(wordings)
        if (nickname, topic) not in UNSEEN
    }
    return EmbeddingQAFinetuneDataset(
        queries={name: question for name, (question, _) in asked.items()},
        corpus=PASSAGES,
        relevant_docs={name: [passage] for name, (_, passage) in asked.items()},
    )


def unseen_questions() -> dict[str, str]:
    """Questions of no training, with the id of the passage that answers each."""
    return {
        WORDINGS[topic][0].format(nickname): f"{topic} {DEVICES[nickname]}"
        for nickname, topic in UNSEEN
    }
