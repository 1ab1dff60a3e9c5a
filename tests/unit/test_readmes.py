"""The documents in English and in Chinese say the same: commands, options, numbers of the tables, links, parts."""

import re

import pytest

from helpers import FOLDERS, TOP

PAIRS = [(TOP / name / 'README.md', TOP / name / 'README.zh.md') for name in FOLDERS]
PAIRS += [(TOP / 'docs' / 'usage.md', TOP / 'docs' / 'usage.zh.md')]
PAIRS += [pair for pair in [(TOP / 'README.md', TOP / 'README.zh.md')] if pair[1].exists()]
FENCED = re.compile(r'^ *```.*?^ *```', re.M | re.S)


def commands(text):
    """-> the lines of the code blocks, without their comments"""
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    return [re.sub(r'  +# .*', '', line).strip() for line in lines]


def prose(text):
    return FENCED.sub('', text)


def options(text):
    """-> how often each option, file of the folder and key stands in the prose"""
    words = re.findall(r'`([^`]+)`', prose(text))
    return sorted(option for word in words for option in re.findall(r'--[a-z][\w-]*', word))


def tables(text):
    """-> of each row of the tables: how many cells it has, and the numbers in it"""
    rows = [line for line in prose(text).splitlines() if line.startswith('|')]
    return [(row.count(' | '), sorted(re.findall(r'\d+(?:[.,]\d+)*', row))) for row in rows]


def links(text):
    found = re.findall(r'https?://[\w./?=#%-]+[\w/]', text) + re.findall(r'\]\(([\w./-]+)\)', text)
    return sorted({re.sub(r'(\.zh)?\.md$', '', link) for link in found})


def headings(text):
    return [line.split(' ')[0] for line in prose(text).splitlines() if line.startswith('#')]


@pytest.mark.parametrize('pair', PAIRS, ids=lambda pair: str(pair[0].relative_to(TOP)))
@pytest.mark.parametrize('part', [commands, options, tables, links, headings], ids=lambda part: part.__name__)
def test_both_languages_say_the_same(pair, part):
    english, chinese = (part(path.read_text()) for path in pair)
    assert english == chinese and (english or part in (options, tables))
    assert re.search('[\u4e00-\u9fff]', pair[1].read_text())
