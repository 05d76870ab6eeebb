"""Enumerate the small organic molecules of C, N, O and F that make the embedded data set ``smallmol``.

Every molecule of k atoms with at most two rings is one of k - 1 atoms plus an atom bound to one, two or three
of them, so levels grow by one heavy atom under neutral valences (C 4, N 3, O 2, F 1). ``GROWTH_FILTERS`` are
hereditary (a hit stays a hit whatever is added), so they prune and lose nothing; ``FINAL_FILTERS``
judge the finished molecule. A filtered enumeration in the spirit of GDB; no molecule is copied from elsewhere.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

from rdkit import Chem, RDLogger, rdBase

VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}
ORDER = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
MAX_ATOMS = 7
MAX_RINGS = 2

# (name, SMARTS, reason), matched on the Kekule form without hydrogens: adding an atom cannot undo a hit.
GROWTH_FILTERS = [
    ("peroxide", "[#8]~[#8]", "O-O bonds are weak"),
    ("hetero-fluorine", "[#7,#8,F]~F", "N-F, O-F and F-F bonds are oxidisers"),
    ("cumulene", "*=*=*", "allenes, ketenes, isocyanates and carbodiimides react with anything"),
    ("nitroso", "[#7]=[#8]", "nitroso compounds dimerise or tautomerise; nitro needs charges"),
    ("small-ring multiple bond", "*1=,#*~*1", "cyclopropenes and azirines"),
    ("cyclobutene", "*1=,#*~*~*1", "double bond inside a ring of four"),
    ("exocyclic on three", "*=*1~*~*1", "methylenecyclopropane and cyclopropanone strain"),
    ("ring triple bond", "[R]#@[R]", "no ring of up to seven atoms holds a triple bond"),
    ("bicyclobutane", "*12~*(~*~1)~*~2", "two rings of three sharing a bond"),
    ("hetero chain of four", "[N,O]-[N,O]-[N,O]-[N,O]", "four heteroatoms in a row outside an aromatic ring"),
]

FINAL_FILTERS = [
    ("dinitrogen", "N#N", "not organic"),
    ("hydrogen fluoride", "[FH]", "not organic"),
    ("hetero chain", "[#7,#8]~[N,O]~[#7,#8]", "three heteroatoms in a row outside an aromatic ring"),
    ("hetero chain end", "[N,O]~[#7,#8]~[#7,#8]", "heteroatom on an aromatic hetero chain"),
    (
        "hydrazine",
        "[NX3;!$(N-C=[N,O])]-[NX3;!$(N-C=[N,O])]",
        "N-N single bonds other than hydrazides and hydrazones",
    ),
    ("azo", "[N]=[N]", "azo compounds and diazenes outside aromatic rings"),
    ("hydroxylamine", "[NX3;!$(N-C=O)]-[O]", "N-O single bonds other than oximes and hydroxamic acids"),
    ("N-oxy azole", "n-[O,N]", "heteroatom on an aromatic nitrogen"),
    (
        "hemiacetal",
        "[CX4]([OH1,NH1,NH2])[#7,#8]",
        "gem-diols, hemiacetals, hemiaminals and free aminals lose water or amine",
    ),
    ("ortho", "[CX4]([#7,#8])([#7,#8])[#7,#8]", "orthoesters and their kin hydrolyse"),
    (
        "oxirane acetal",
        "[C;r3]([#7,#8;r3])[#7,#8;!r3]",
        "heteroatom on an epoxide or aziridine carbon opens the ring",
    ),
    ("enol", "[C;!a]=[C;!a]-[OH]", "enols tautomerise"),
    (
        "enamine",
        "[NH1,NH2]-[C;!a]=[C;!a;!$(C-C=[O,N]);!$(C-C#N)]",
        "N-H enamines tautomerise unless conjugated to an acceptor",
    ),
    ("ketene acetal", "[C;!a]=[C;!a]([#7,#8])[#7,#8]", "ketene acetals and aminals hydrolyse"),
    ("imidic acid", "[N;!a]=[C;!a]-[OH]", "imidic acids are amides"),
    ("N-H imine", "[NH]=[C;!$(C-[#7,#8])]", "N-H imines without a stabilising heteroatom hydrolyse"),
    (
        "open imine",
        "[C;!$(C-[#7,#8])]=!@[N;!$(N-[#7,#8])]",
        "open-chain imines without a stabilising heteroatom hydrolyse",
    ),
    ("alpha fluoride", "F[C;!a]~[#7,#8]", "acyl fluorides and alpha-fluoro ethers and amines lose HF"),
    ("fluoroalkyne", "FC#*", "explosive"),
    ("ynol", "[C;!a]#[C;!a]-[#7,#8]", "ynols and ynamines tautomerise or polymerise"),
    ("cyanate", "N#C-[#8]", "cyanates rearrange"),
    ("carbamic acid", "[OH]-C(=O)-[#7,#8]", "carbonic and carbamic acids lose CO2"),
    ("formic anhydride", "[CH1](=O)-O-[CH1]=O", "loses CO"),
    ("tricarbonyl", "C(=O)-C(=O)-C=O", "vicinal tricarbonyls hydrate"),
    ("triyne", "*#*-*#*-*#*", "polyynes explode"),
    ("bridgehead", "[x3;!a]=*", "double bond at a bridgehead or ring fusion"),
    ("cyclopentadienone", "O=C1C=CC=C1", "dimerises at once"),
    ("strained aromatic", "[a;x3]", "an aromatic ring fused or bridged within seven atoms cannot be flat"),
    ("aromatic three-ring", "a1aa1", "triaziridines and oxaziridines drawn as aromatic rings"),
    ("aromatic seven-ring", "a1aaaaaa1", "rings of seven drawn as aromatic with lone pairs"),
    ("exocyclic alkylidene", "C=c", "isomer of an aromatic ring drawn with a double bond out of it"),
    ("exocyclic imine", "[NH]=c", "tautomer of an aromatic amine"),
    ("bridge carbonyl", "[x3]-C(=*)-[x3]", "one-atom carbonyl bridge between bridgeheads"),
    ("twisted amide", "[N;x3]-@C=[O,N]", "an amide nitrogen at a bridgehead or ring fusion cannot conjugate"),
    ("isoimide", "[N;!a]=C-O-C=[O,N]", "acyl imidates rearrange to imides"),
    ("1,2,3-oxadiazole", "[o]nn", "opens to a diazo ketone"),
    ("polyazine", "n1nnnaa1", "1,2,3,4-tetrazines and richer lose nitrogen"),
    ("pentazole", "[n,o]1[n,o][n,o][n,o][n,o]1", "no carbon left in the ring"),
]


def compile_filters(filters: list[tuple[str, str, str]]) -> list[tuple[str, Chem.Mol]]:
    """The filters as (name, query), failing loudly on a SMARTS that does not parse."""
    compiled = [(name, Chem.MolFromSmarts(smarts)) for name, smarts, _ in filters]
    broken = [name for name, query in compiled if query is None]
    if broken:
        raise ValueError(f"filters whose SMARTS does not parse: {broken}")
    return compiled


def first_hit(mol: Chem.Mol, filters: list[tuple[str, Chem.Mol]]) -> str | None:
    """Name of the first filter that matches, or None."""
    return next((name for name, query in filters if mol.HasSubstructMatch(query)), None)


def kekulized(smiles: str) -> Chem.Mol:
    """The molecule with alternating bonds and no aromatic flags."""
    mol = Chem.MolFromSmiles(smiles)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def attachments(mol: Chem.Mol, valence: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """All ways to bind a new atom to one, two or three atoms of ``mol``, as ((atom, bond order), ...)."""
    free = [(atom.GetIdx(), atom.GetTotalNumHs()) for atom in mol.GetAtoms() if atom.GetTotalNumHs()]
    rings = mol.GetNumBonds() - mol.GetNumAtoms() + 1
    for partners in range(1, min(MAX_RINGS - rings + 1, valence) + 1):
        for chosen in combinations(free, partners):
            for orders in product(*(range(1, min(hydrogens, 3) + 1) for _, hydrogens in chosen)):
                if sum(orders) <= valence:
                    yield tuple((atom, order) for (atom, _), order in zip(chosen, orders, strict=True))


def children(smiles: str) -> Iterator[str]:
    """Canonical SMILES of every molecule with one more heavy atom than ``smiles``, repeats included."""
    parent = kekulized(smiles)
    for element, valence in VALENCE.items():
        for bonds in attachments(parent, valence):
            if any(element == "F" and parent.GetAtomWithIdx(atom).GetSymbol() != "C" for atom, _ in bonds):
                continue
            child = Chem.RWMol(parent)
            new = child.AddAtom(Chem.Atom(element))
            for atom, order in bonds:
                child.AddBond(atom, new, ORDER[order])
                child.GetAtomWithIdx(atom).SetNumExplicitHs(0)
                child.GetAtomWithIdx(atom).SetNoImplicit(False)
            Chem.SanitizeMol(child)
            yield Chem.MolToSmiles(child)


def enumerate_levels(max_atoms: int) -> Iterator[tuple[list[str], Counter[str]]]:
    """Per number of heavy atoms 1, 2, ...: the sorted SMILES kept and how many each final filter removed."""
    growth, final = compile_filters(GROWTH_FILTERS), compile_filters(FINAL_FILTERS)
    level = {Chem.CanonSmiles(element) for element in VALENCE}
    for atoms in range(1, max_atoms + 1):
        if atoms > 1:
            candidates = {child for smiles in level for child in children(smiles)}
            level = {s for s in candidates if first_hit(kekulized(s), growth) is None}
        removed: Counter[str] = Counter()
        kept = []
        for smiles in sorted(level):
            hit = first_hit(Chem.MolFromSmiles(smiles), final)
            if hit is None:
                kept.append(smiles)
            else:
                removed[hit] += 1
        yield kept, removed


def write(path: Path, molecules: list[str]) -> str:
    """Write gzipped lines without a time stamp; return the sha256 of the uncompressed content."""
    content = "".join(f"{smiles}\n" for smiles in molecules).encode()
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=9) as stream:
        stream.write(content)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(content).hexdigest()


def compare(reference: Path, ours: Path) -> None:
    """Print the share of ``reference`` (neutral atoms, up to 7 heavy atoms) that is in ``ours``."""
    with gzip.open(ours, "rt") as stream:
        known = set(stream.read().split())
    growth, final = compile_filters(GROWTH_FILTERS), compile_filters(FINAL_FILTERS)
    found, missing = 0, Counter[str]()
    with gzip.open(reference, "rt") as stream:
        for line in stream:
            mol = Chem.MolFromSmiles(line.split(",")[0].strip())
            if mol is None or mol.GetNumAtoms() > MAX_ATOMS or any(a.GetFormalCharge() for a in mol.GetAtoms()):
                continue
            if Chem.MolToSmiles(mol) in known:
                found += 1
                continue
            rings = mol.GetNumBonds() - mol.GetNumAtoms() + 1
            reason = first_hit(kekulized(Chem.MolToSmiles(mol)), growth) or first_hit(mol, final)
            missing[reason or (f"more than {MAX_RINGS} rings" if rings > MAX_RINGS else "not enumerated")] += 1
    total = found + missing.total()
    print(f"{found} of {total} contained ({found / max(total, 1):.1%}); missing by reason:")
    for reason, count in missing.most_common():
        print(f"  {count:6d}  {reason}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python enumerate.py -o smallmol.smi.gz   (about 70 seconds on one core)",
    )
    here = Path(__file__).parent / "smallmol.smi.gz"
    parser.add_argument("-o", "--output", type=Path, help="write the molecules here (gzipped, one SMILES a line)")
    parser.add_argument("--max-atoms", type=int, default=MAX_ATOMS, help="most heavy atoms (default %(default)s)")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="gzipped SMILES or CSV: share of it in smallmol.smi.gz"
    )
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    if arguments.compare:
        compare(arguments.compare, here)
        return
    molecules: list[str] = []
    print(f"rdkit {rdBase.rdkitVersion}")
    for atoms, (kept, removed) in enumerate(enumerate_levels(arguments.max_atoms), start=1):
        molecules += kept
        print(f"{atoms} heavy atoms: {len(kept)} kept, {removed.total()} removed {dict(removed.most_common())}")
        sys.stdout.flush()
    print(f"{len(molecules)} molecules")
    if arguments.output:
        print(f"sha256 of the content: {write(arguments.output, molecules)}")


if __name__ == "__main__":
    main()
