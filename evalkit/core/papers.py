"""The papers that catalogs name, one row each, for a methods section and its BibTeX.

A row of a catalog names a paper as text, such as `Heusel et al. 2017`; `papers_in` finds it here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Entry = Literal["inproceedings", "article", "misc", "techreport"]
_NAMED_AUTHORS = 2
"""Most authors that a short name lists."""
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"',
}  # fmt: skip
"""TeX's commands by the combining character."""
_LETTERS = {"ø": r"{\o}", "ł": r"{\l}", "ß": r"{\ss}", "Ø": r"{\O}", "Ł": r"{\L}"}
_VENUES = {"article": "journal", "inproceedings": "booktitle", "techreport": "institution"}
"""BibTeX's field for the venue."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A publication."""

    authors: tuple[str, ...]
    """As `First Last`; a last entry `others` stands for authors that are left out."""
    title: str
    year: int
    """Of the venue; of the preprint where there is no venue."""
    venue: str = ""
    """Conference, journal or institution; empty for a preprint."""
    entry: Entry = "inproceedings"
    arxiv: str = ""
    """Identifier on arXiv; empty if it isn't there."""

    @property
    def short(self) -> str:
        """Its name in a text: `Heusel et al. 2017`, `Ho & Salimans 2022`, `Holm 1979`."""
        last = [_last_name(author) for author in self.authors]
        if len(last) > _NAMED_AUTHORS:
            return f"{last[0]} et al. {self.year}"
        return f"{' & '.join(last)} {self.year}"

    def bibtex(self, key: str) -> str:
        """Return its entry in ASCII, with accents as TeX's commands."""
        fields = {
            "author": " and ".join(map(_inverted, self.authors)),
            "title": f"{{{self.title}}}",
        }
        if self.venue:
            fields[_VENUES.get(self.entry, "howpublished")] = self.venue
        fields["year"] = str(self.year)
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        lines = "".join(f"  {name} = {{{_ascii(text)}}},\n" for name, text in fields.items())
        return f"@{self.entry}{{{key},\n{lines}}}"


def _last_name(author: str) -> str:
    words = author.split()
    particle = len(words) > 2 and words[-2] in ("Le", "van", "von", "de")
    return " ".join(words[-2:] if particle else words[-1:])


def _inverted(author: str) -> str:
    """Return `Last, First`, which BibTeX parses without guessing."""
    last = _last_name(author)
    first = author.removesuffix(last).strip()
    return f"{last}, {first}" if first else last


def _ascii(text: str) -> str:
    r"""Write accents as TeX does.

    >>> print(_ascii("Bińkowski, Kynkäänniemi"))
    Bi{\'n}kowski, Kynk{\"a}{\"a}nniemi
    >>> print(_ascii("Björn Ommer, Michał"))
    Bj{\"o}rn Ommer, Micha{\l}
    """
    found: list[str] = []
    for letter in unicodedata.normalize("NFD", text):
        if letter in _ACCENTS and found:
            found[-1] = f"{{\\{_ACCENTS[letter]}{found[-1]}}}"
        else:
            found.append(_LETTERS.get(letter, letter))
    return "".join(found)


def papers_in(text: str) -> dict[str, Paper]:
    """Return the papers that a text names, by their keys.

    >>> list(papers_in("Kynkäänniemi et al. 2019, Naeem et al. 2020"))
    ['kynkaanniemi2019improved', 'naeem2020reliable']
    """
    places = {
        key: re.search(rf"\b{re.escape(paper.short)}\b", text) for key, paper in PAPERS.items()
    }
    found = sorted((place.start(), key) for key, place in places.items() if place is not None)
    return {key: PAPERS[key] for _, key in found}


def bibliography(keys: Iterable[str]) -> str:
    """Return the BibTeX entries of some papers, each once, in the order given."""
    return "\n\n".join(PAPERS[key].bibtex(key) for key in dict.fromkeys(keys))


_NEURIPS = "Advances in Neural Information Processing Systems"
_ICLR = "International Conference on Learning Representations"
_ICML = "International Conference on Machine Learning"
_CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition"

PAPERS: Mapping[str, Paper] = {
    # Metrics.
    "heusel2017gans": Paper(
        authors=(
            "Martin Heusel", "Hubert Ramsauer", "Thomas Unterthiner", "Bernhard Nessler",
            "Sepp Hochreiter",
        ),
        title="GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
        year=2017,
        venue=_NEURIPS,
        arxiv="1706.08500",
    ),
    "binkowski2018demystifying": Paper(
        authors=("Mikołaj Bińkowski", "Danica J. Sutherland", "Michael Arbel", "Arthur Gretton"),
        title="Demystifying MMD GANs",
        year=2018,
        venue=_ICLR,
        arxiv="1801.01401",
    ),
    "salimans2016improved": Paper(
        authors=(
            "Tim Salimans", "Ian Goodfellow", "Wojciech Zaremba", "Vicki Cheung", "Alec Radford",
            "Xi Chen",
        ),
        title="Improved Techniques for Training GANs",
        year=2016,
        venue=_NEURIPS,
        arxiv="1606.03498",
    ),
    "kynkaanniemi2019improved": Paper(
        authors=(
            "Tuomas Kynkäänniemi", "Tero Karras", "Samuli Laine", "Jaakko Lehtinen", "Timo Aila",
        ),
        title="Improved Precision and Recall Metric for Assessing Generative Models",
        year=2019,
        venue=_NEURIPS,
        arxiv="1904.06991",
    ),
    "naeem2020reliable": Paper(
        authors=(
            "Muhammad Ferjad Naeem", "Seong Joon Oh", "Youngjung Uh", "Yunjey Choi", "Jaejun Yoo",
        ),
        title="Reliable Fidelity and Diversity Metrics for Generative Models",
        year=2020,
        venue=_ICML,
        arxiv="2002.09797",
    ),
    "nash2021generating": Paper(
        authors=("Charlie Nash", "Jacob Menick", "Sander Dieleman", "Peter W. Battaglia"),
        title="Generating Images with Sparse Representations",
        year=2021,
        venue=_ICML,
        arxiv="2103.03841",
    ),
    "stein2023exposing": Paper(
        authors=(
            "George Stein", "Jesse C. Cresswell", "Rasa Hosseinzadeh", "Yi Sui",
            "Brendan Leigh Ross", "Valentin Villecroze", "Zhaoyan Liu", "Anthony L. Caterini",
            "J. Eric T. Taylor", "Gabriel Loaiza-Ganem",
        ),
        title="Exposing Flaws of Generative Model Evaluation Metrics and Their Unfair Treatment of "
        "Diffusion Models",
        year=2023,
        venue=_NEURIPS,
        arxiv="2306.04675",
    ),
    "kynkaanniemi2023role": Paper(
        authors=(
            "Tuomas Kynkäänniemi", "Tero Karras", "Miika Aittala", "Timo Aila", "Jaakko Lehtinen",
        ),
        title="The Role of ImageNet Classes in Fréchet Inception Distance",
        year=2023,
        venue=_ICLR,
        arxiv="2203.06026",
    ),
    "jayasumana2024rethinking": Paper(
        authors=(
            "Sadeep Jayasumana", "Srikumar Ramalingam", "Andreas Veit", "Daniel Glasner",
            "Ayan Chakrabarti", "Sanjiv Kumar",
        ),
        title="Rethinking FID: Towards a Better Evaluation Metric for Image Generation",
        year=2024,
        venue=_CVPR,
        arxiv="2401.09603",
    ),
    "hessel2021clipscore": Paper(
        authors=(
            "Jack Hessel", "Ari Holtzman", "Maxwell Forbes", "Ronan Le Bras", "Yejin Choi",
        ),
        title="CLIPScore: A Reference-free Evaluation Metric for Image Captioning",
        year=2021,
        venue="Conference on Empirical Methods in Natural Language Processing",
        arxiv="2104.08718",
    ),
    "xu2018attngan": Paper(
        authors=(
            "Tao Xu", "Pengchuan Zhang", "Qiuyuan Huang", "Han Zhang", "Zhe Gan", "Xiaolei Huang",
            "Xiaodong He",
        ),
        title="AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative "
        "Adversarial Networks",
        year=2018,
        venue=_CVPR,
        arxiv="1711.10485",
    ),
    "wang2004image": Paper(
        authors=("Zhou Wang", "Alan C. Bovik", "Hamid R. Sheikh", "Eero P. Simoncelli"),
        title="Image Quality Assessment: From Error Visibility to Structural Similarity",
        year=2004,
        venue="IEEE Transactions on Image Processing",
        entry="article",
    ),
    "zhang2018unreasonable": Paper(
        authors=(
            "Richard Zhang", "Phillip Isola", "Alexei A. Efros", "Eli Shechtman", "Oliver Wang",
        ),
        title="The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
        year=2018,
        venue=_CVPR,
        arxiv="1801.03924",
    ),
    # Networks of features.
    "szegedy2016rethinking": Paper(
        authors=(
            "Christian Szegedy", "Vincent Vanhoucke", "Sergey Ioffe", "Jonathon Shlens",
            "Zbigniew Wojna",
        ),
        title="Rethinking the Inception Architecture for Computer Vision",
        year=2016,
        venue=_CVPR,
        arxiv="1512.00567",
    ),
    "radford2021learning": Paper(
        authors=(
            "Alec Radford", "Jong Wook Kim", "Chris Hallacy", "Aditya Ramesh", "Gabriel Goh",
            "Sandhini Agarwal", "Girish Sastry", "Amanda Askell", "Pamela Mishkin", "Jack Clark",
            "Gretchen Krueger", "Ilya Sutskever",
        ),
        title="Learning Transferable Visual Models From Natural Language Supervision",
        year=2021,
        venue=_ICML,
        arxiv="2103.00020",
    ),
    "oquab2023dinov2": Paper(
        authors=("Maxime Oquab", "Timothée Darcet", "Théo Moutakanni", "others"),
        title="DINOv2: Learning Robust Visual Features without Supervision",
        year=2023,
        entry="misc",
        arxiv="2304.07193",
    ),
    # Data sets.
    "lin2014microsoft": Paper(
        authors=(
            "Tsung-Yi Lin", "Michael Maire", "Serge Belongie", "James Hays", "Pietro Perona",
            "Deva Ramanan", "Piotr Dollár", "C. Lawrence Zitnick",
        ),
        title="Microsoft COCO: Common Objects in Context",
        year=2014,
        venue="European Conference on Computer Vision",
        arxiv="1405.0312",
    ),
    "li2024playground": Paper(
        authors=(
            "Daiqing Li", "Aleks Kamko", "Ehsan Akhgari", "Ali Sabet", "Linmiao Xu", "Suhail Doshi",
        ),
        title="Playground v2.5: Three Insights towards Enhancing Aesthetic Quality in "
        "Text-to-Image Generation",
        year=2024,
        entry="misc",
        arxiv="2402.17245",
    ),
    "russakovsky2015imagenet": Paper(
        authors=("Olga Russakovsky", "Jia Deng", "Hao Su", "others"),
        title="ImageNet Large Scale Visual Recognition Challenge",
        year=2015,
        venue="International Journal of Computer Vision",
        entry="article",
        arxiv="1409.0575",
    ),
    "krizhevsky2009learning": Paper(
        authors=("Alex Krizhevsky",),
        title="Learning Multiple Layers of Features from Tiny Images",
        year=2009,
        venue="University of Toronto",
        entry="techreport",
    ),
    # Models.
    "nichol2022glide": Paper(
        authors=(
            "Alex Nichol", "Prafulla Dhariwal", "Aditya Ramesh", "Pranav Shyam", "Pamela Mishkin",
            "Bob McGrew", "Ilya Sutskever", "Mark Chen",
        ),
        title="GLIDE: Towards Photorealistic Image Generation and Editing with Text-Guided "
        "Diffusion Models",
        year=2022,
        venue=_ICML,
        arxiv="2112.10741",
    ),
    "ramesh2021zero": Paper(
        authors=(
            "Aditya Ramesh", "Mikhail Pavlov", "Gabriel Goh", "Scott Gray", "Chelsea Voss",
            "Alec Radford", "Mark Chen", "Ilya Sutskever",
        ),
        title="Zero-Shot Text-to-Image Generation",
        year=2021,
        venue=_ICML,
        arxiv="2102.12092",
    ),
    "ramesh2022hierarchical": Paper(
        authors=(
            "Aditya Ramesh", "Prafulla Dhariwal", "Alex Nichol", "Casey Chu", "Mark Chen",
        ),
        title="Hierarchical Text-Conditional Image Generation with CLIP Latents",
        year=2022,
        entry="misc",
        arxiv="2204.06125",
    ),
    "saharia2022photorealistic": Paper(
        authors=(
            "Chitwan Saharia", "William Chan", "Saurabh Saxena", "Lala Li", "Jay Whang",
            "Emily Denton", "Seyed Kamyar Seyed Ghasemipour", "Burcu Karagol Ayan",
            "S. Sara Mahdavi", "Rapha Gontijo Lopes", "Tim Salimans", "Jonathan Ho",
            "David J. Fleet", "Mohammad Norouzi",
        ),
        title="Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding",
        year=2022,
        venue=_NEURIPS,
        arxiv="2205.11487",
    ),
    "ho2020denoising": Paper(
        authors=("Jonathan Ho", "Ajay Jain", "Pieter Abbeel"),
        title="Denoising Diffusion Probabilistic Models",
        year=2020,
        venue=_NEURIPS,
        arxiv="2006.11239",
    ),
    "nichol2021improved": Paper(
        authors=("Alex Nichol", "Prafulla Dhariwal"),
        title="Improved Denoising Diffusion Probabilistic Models",
        year=2021,
        venue=_ICML,
        arxiv="2102.09672",
    ),
    "dhariwal2021diffusion": Paper(
        authors=("Prafulla Dhariwal", "Alex Nichol"),
        title="Diffusion Models Beat GANs on Image Synthesis",
        year=2021,
        venue=_NEURIPS,
        arxiv="2105.05233",
    ),
    "rombach2022high": Paper(
        authors=(
            "Robin Rombach", "Andreas Blattmann", "Dominik Lorenz", "Patrick Esser", "Björn Ommer",
        ),
        title="High-Resolution Image Synthesis with Latent Diffusion Models",
        year=2022,
        venue=_CVPR,
        arxiv="2112.10752",
    ),
    "podell2024sdxl": Paper(
        authors=(
            "Dustin Podell", "Zion English", "Kyle Lacey", "Andreas Blattmann", "Tim Dockhorn",
            "Jonas Müller", "Joe Penna", "Robin Rombach",
        ),
        title="SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis",
        year=2024,
        venue=_ICLR,
        arxiv="2307.01952",
    ),
    "esser2024scaling": Paper(
        authors=("Patrick Esser", "Sumith Kulal", "Andreas Blattmann", "others"),
        title="Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        year=2024,
        venue=_ICML,
        arxiv="2403.03206",
    ),
    # Sampling.
    "song2021denoising": Paper(
        authors=("Jiaming Song", "Chenlin Meng", "Stefano Ermon"),
        title="Denoising Diffusion Implicit Models",
        year=2021,
        venue=_ICLR,
        arxiv="2010.02502",
    ),
    "lu2022dpmpp": Paper(
        authors=(
            "Cheng Lu", "Yuhao Zhou", "Fan Bao", "Jianfei Chen", "Chongxuan Li", "Jun Zhu",
        ),
        title="DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
        year=2022,
        entry="misc",
        arxiv="2211.01095",
    ),
    "karras2022elucidating": Paper(
        authors=("Tero Karras", "Miika Aittala", "Timo Aila", "Samuli Laine"),
        title="Elucidating the Design Space of Diffusion-Based Generative Models",
        year=2022,
        venue=_NEURIPS,
        arxiv="2206.00364",
    ),
    "ho2022classifier": Paper(
        authors=("Jonathan Ho", "Tim Salimans"),
        title="Classifier-Free Diffusion Guidance",
        year=2022,
        entry="misc",
        arxiv="2207.12598",
    ),
    # Statistics and charts.
    "holm1979simple": Paper(
        authors=("Sture Holm",),
        title="A Simple Sequentially Rejective Multiple Test Procedure",
        year=1979,
        venue="Scandinavian Journal of Statistics",
        entry="article",
    ),
    "xiao2022tackling": Paper(
        authors=("Zhisheng Xiao", "Karsten Kreis", "Arash Vahdat"),
        title="Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
        year=2022,
        venue=_ICLR,
        arxiv="2112.07804",
    ),
}  # fmt: skip
"""By BibTeX key."""
