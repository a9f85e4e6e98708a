# /// script
# requires-python = ">=3.11"
# dependencies = ["cn2an", "jieba", "pyopenjtalk-plus", "pypinyin", "unidecode"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write how the open implementation of VALL-E X reads Chinese and Japanese texts.

Run with ``uv run tests/golden/regenerate_phonemes_east.py VALLEX``, where ``VALLEX`` is a checkout of
https://github.com/Plachtaa/VALL-E-X at 3faaf8c. Nothing here imports the benchmark.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

TEXTS = {
    "zh": (
        "你好，世界！",
        "今天天气很好。",
        "我们去北京大学吃饭",
        "他说：这是第2次；不要紧、没关系",
        "价格是3.5元",
        "他有100本书",
        "使用GPU和CPU计算",
        "知识就是力量？",
        "女儿绿色的裙子，略有卷曲",
        "儿童二十人",
        "日出东方—红",
        "原因是学院的军队",
        "慈善四十是十",
        "雪中送炭",
        "翁先生的鱼用完了",
        "坐火车 去上海",
        "嗯，好的",
        "wifi密码是abcxyz",
        "波浪破墨佛",
    ),
    "ja": (
        "こんにちは、世界。",
        "今日はいい天気ですね！",
        "東京に行きました",
        "100パーセント",
        "50％オフ",
        "学校で雑誌を買った？",
        "ちょっと待ってください...",
        "新幹線は便利だ",
        "お母さんと散歩",
        "漢字とカタカナのニュース",
        "きっと、がんばって",
        "ＡＢＣを言う",
        "病院へ行く、すぐに！",
    ),
}


def main(vallex: str) -> None:
    sys.modules["utils"], sys.modules["utils.g2p"] = ModuleType("utils"), ModuleType("utils.g2p")
    sys.modules["utils.g2p.english"] = ModuleType("english")
    for name in ("english_to_lazy_ipa", "english_to_ipa2", "english_to_lazy_ipa2"):
        setattr(sys.modules["utils.g2p.english"], name, None)
    for name in ("japanese", "mandarin", "cleaners"):
        spec = importlib.util.spec_from_file_location(f"utils.g2p.{name}", Path(vallex, f"utils/g2p/{name}.py"))
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found = {
        language: {text: re.sub(" ", "_", module.cje_cleaners(f"[{tag}]{text}[{tag}]")[0]) for text in texts}
        for (language, texts), tag in zip(TEXTS.items(), ("ZH", "JA"), strict=True)
    }
    path = Path(__file__).with_name("phonemes_east.json")
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
