# SPDX-License-Identifier: Apache-2.0
"""The colours of the labels of well-known data sets, by name: COCO, ADE20K, Cityscapes, Mapillary Vistas, CamVid, VOC.

Each name has two: one that is as natural as possible, and one that also eyes which see no difference of red and green
tell from the others. Colours were chosen once, so that those of one data set are as far apart in OKLab as can be, under
two conditions: stuff that people know has its own hue (sky and water blue, vegetation green, roads grey, soil and
buildings brown, sand, snow), and things are vivid where other stuff is muted.

Source:
    The second colours of sky, tree, person, car, bus, bicycle and sign are those of M. Okabe and K. Ito, "Color
    universal design", 2008: eight values without a licence, which R and others ship. The rest are far from these and
    from each other in what such eyes see after G. Machado et al., "A physiologically-based model for simulation of
    color vision deficiency", 2009. The tests keep the distances: a new name takes colours with which they still pass.
"""

_TABLE = """
    person|pedestrian ef0454 d55e00; bicycle e601a9 cc79a7; car 0247cf 0072b2; motorcycle|motorbike ff80c0 dbc683;
    airplane|aeroplane a36501 7f8de8; bus ff834d e69f00; train fe1cff 6d015d; truck ce99ff 6d456f; boat bc6bab 3f03a2;
    traffic light ceba03 0004cd; fire hydrant fe2813 908246; stop sign df120f dad40b; parking meter be4890 309c8c;
    bench db71d9 88755e; bird 754efe c3a5b4; cat b6a000 f3f91a; dog 8d9bfe f0efdc; horse e25301 730f35;
    sheep 724fa1 5a6bff; cow a93651 1602f3; elephant 739a7f 4c52ff; bear fe00d2 b57b6b; zebra 514062 7da4ff;
    giraffe a748be 710248; backpack fdacfe 77485b; umbrella fd767a e7dcff; handbag d0d182 3ba9dd; tie 00c184 755d6a;
    suitcase fe1585 54028f; frisbee 8103e1 d5c11b; skis 5e48d1 b71600; snowboard fd87fd ad848b;
    sports ball fec325 1737fd; kite 9928ff 56d0c4; baseball bat 6374b8 0001e1; baseball glove 01869c 2661b4;
    skateboard fe5cf7 521d79; surfboard ce0065 816257; tennis racket 85b6ff 3ab1cd; bottle ddd836 f6e39b;
    wine glass d900d8 697af3; cup 00edf4 293ee0; fork 90477f ec8102; knife d14b65 4483b3; spoon 06a5ff 3d79ce;
    bowl 0a8d5a 9c008e; banana f8f738 214989; apple be0c04 c3b849; sandwich e56c99 ab5900; orange fd9609 7d85fd;
    broccoli 00ba2c 436139; carrot e1881c eddfdc; hot dog 818114 e675c2; pizza c2039e 7d0f55; donut 00d8c4 0605ba;
    cake 00d3fd 7c96fe; chair 00b8b1 c0123e; couch|sofa 00de8f 77567b; potted plant 00610a 455e01; bed 8be0b3 0161a0;
    dining table a600d6 b9c6ff; toilet c30dfe a6603f; tv|tv monitor|television receiver 018ad1 4442b2;
    laptop 0069bf e5d2c5; mouse 07f5af 007ca2; remote 8860d5 6781e1; keyboard 8e85cc 6bbefe; cell phone ff516f 7a6686;
    microwave 6a87ff ce0a9f; oven 029d95 fef36d; toaster cd8fc8 858506; sink a004af fde27c; refrigerator d256ff 887287;
    book 006fff 3f47c8; clock 01a2c7 f2b0c7; vase 00a76b edd665; scissors beb5fe 3a6ac6; teddy bear 5a69e2 e116ca;
    hair drier 017659 cfd1fe; toothbrush 0140fe f57cd6; banner a25fff 771e68; blanket 81c1a5 006ca2;
    bridge e5979c ead791; cardboard eab19d ab9d6a; counter c9aa5d c1ad9e; curtain aa1d76 f75145; door 7e38ba 0b36c3;
    floor wood 8a816b 978e47; flower b74a01 5244a0; fruit ffafcc 3fa2bc; gravel 677488 d7cbe6; house b56a70 ddcba4;
    light 611bfd ecabd8; mirror d352be 004264; net f4ceff 009ea3; pillow fe50be 11598d; platform b4b2ca 173842;
    playingfield 85ca0e b4b56b; railroad b2a090 4c2721; river 6eafc9 1e4773; road 565964 707070; roof 875354 fcefba;
    sand f8e394 e1ca58; sea 05baf5 5883cb; shelf e89775 c7b78d; snow e4f9ff eeeaff; stairs bb7645 e2d9ac;
    tent c47cff e8df06; towel 028bfe 34557b; wall brick cc807e fef199; wall stone ffcbb5 afa098;
    wall tile e7e5c9 d5bfa1; wall wood a58a3d 783349; water 006a85 3c6ddb; window blind 4b5b92 6e3002;
    window a2eee5 4a28a7; tree|vegetation 009803 009e73; fence 7d6100 6f2b28; ceiling dfc7c4 7a5551; sky 89d5ff 56b4e9;
    cabinet 92541a cbc367; table 716853 f1e3bf; floor efb674 7c3228; pavement|sidewalk 9396a6 ddd5dd;
    mountain 664a2d d89249; grass|terrain 7cee53 adab78; dirt 9b6651 632701; paper c3dfff a4c3e8; food b36bd7 2a5ce1;
    building bd8b60 8e441b; rock 824221 591d01; wall bdb693 c7b9b3; rug 9769a0 e76381; pole 777591 2d47ff;
    traffic sign ffea07 f0e442; rider|bicyclist 9400d3 638afe; windowpane e208ff 3d3cea; earth 9e7c36 632701;
    plant 007301 b1ca07; painting fe95c8 9f9ebc; field 47bd0d f2ea31; armchair 12ebfe d8f8dd; seat 909019 794d34;
    desk df6092 7696a9; wardrobe b901d4 68cdc2; lamp 6244d3 64a5e6; bathtub 00d3fd 4528ac; railing da5502 fd780a;
    cushion ff5a1b 88898d; base f5b199 afa58c; box c2039e 92cffe; column fe757c 2e7ca7; signboard d90175 2200ec;
    chest of drawers 00f1d2 83e0fa; skyscraper 954c4d ab9d6a; fireplace 9d99fc 6eece8; grandstand a8604c a67d42;
    path acb1c7 263946; runway 465248 cbeddc; case fda5fe 690f59; pool table ff008e 96789d; screen door ff9f08 b760fe;
    stairway b89f92 d4cdbb; bookcase a040d5 94bffe; blind c9d186 e5d6ca; coffee table a988cb 3a7ce4;
    hill 8f936b a06302; countertop b9014b dad40b; stove 0161d6 573486; palm 355902 a5be48;
    kitchen island 3d9268 d58eff; computer 8103e1 71616a; swivel chair df7606 9a86ca; bar b3e7fc 715066;
    arcade machine 008351 8d358a; hovel 886466 84553b; tower c97e7f fcefba; chandelier ff02df a9a9b5;
    awning ff4b71 975003; streetlight|street light ac44a7 5453b8; booth fd87fd 4575cc; dirt track 947c70 4c2721;
    apparel fec325 2f64f8; land 92cb06 4d9454; bannister 7f77c8 845c8b; escalator e0afd5 d34325; ottoman ae55fe 0000bd;
    buffet 026f5a a485fe; poster 5e8d9f 6e3002; stage 6eac8c ef6e09; van 7666fd d7c089; ship d905d4 502e98;
    fountain 0275b8 5486e2; conveyer belt cbcdfe 494f54; canopy 767a3b 85f3fd; washer fd76b7 7e3c00;
    plaything a7a704 6f1535; swimming pool 00838f 2064cd; stool 8f4585 4c168d; barrel 06a5ff 87cae7;
    basket fd0f0e 9c91c1; waterfall 0b5fa7 107495; bag fe5cf7 cf715a; minibike ce9301 73323e; cradle fdc6fd 93a9d2;
    ball 00d4c3 761c6e; step a106fe 377dbc; tank a6d0ce aa9f9e; trade name 524ffc a98472; pot 77b1ff b0fffe;
    animal b94678 f3f91a; lake 4e7097 64adff; dishwasher d18ec1 1000dd; screen 546dd7 6c1646; sculpture 0140fe 82344e;
    hood 00f6a4 ff79d7; sconce 04c480 806559; tray 997bff cdc2a5; ashcan|trash can ba1c0e 243ed9; fan 875abc b6b86f;
    pier 9ff0d5 75195a; crt screen 6c5282 8d80b5; plate 8642fe 2512fd; monitor db0508 7a9c8a;
    bulletin board 7392d3 c041b8; shower fed4ba f1f69a; radiator 5657ae 5b1278; glass b6b5fe ddcf7c;
    flag d95259 5d80fd; ground animal 884829 c88916; curb 91aa9c 4b4047; guard rail cdd1a8 eddc10;
    barrier eab9ac 583a87; bike lane 61796c 6f5c61; crosswalk plain a6c4c1 decbb4; curb cut 716275 aac5da;
    parking c6b6c6 d0dbfa; pedestrian area 4b533f 616480; rail track 9e7c36 591d01; service lane 8c756a 584e50;
    tunnel dea96c ccb65f; motorcyclist fe4b92 677fd6; other rider 6d4ab7 403bad; lane marking crosswalk efe1d9 f2f7ed;
    lane marking general d7d0dd efe1d9; bike rack 04f3c6 f3f91a; billboard cb0bff 5e0281; catch basin b89f92 61593c;
    cctv camera 01bfff 4f9cd0; junction box 006fff cb7777; mailbox 0095e6 207afe; manhole a5a9be 24344a;
    phone booth 00ca82 6aa3ff; pothole 5e6651 432c32; traffic sign frame ab7d88 803006; utility pole 598f9b 565395;
    traffic sign back b40c6c 00a0a6; traffic sign front 02a676 786a46; caravan 868dff fef280; on rails a25f46 a7550c;
    other vehicle ff19fc adc1ff; trailer fdb0ff 0004fa; wheeled slow 4b2fff fcefba; car mount 8f9079 aaa293;
    ego vehicle 504a5d 717894; sign ffea07 f0e442; disc d5041b d55e00; square fde543 f0e442; diamond 7d00d7 0072b2;
    triangle ee8b11 e69f00; ring fb91d8 cc79a7; soil 5e4a2c 5d160e
"""


def _color(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


COLORS = {
    name: (_color(natural), _color(colorblind))
    for names, natural, colorblind in (entry.rsplit(maxsplit=2) for entry in _TABLE.split(";"))
    for name in names.strip().split("|")
}
"""Both colours of each name, which is in small letters, its words separated by single spaces."""
