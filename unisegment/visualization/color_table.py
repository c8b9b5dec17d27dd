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
    person|pedestrian ef0454 d55e00; bicycle e601a9 cc79a7; car 0247cf 0072b2; motorcycle|motorbike ff80c0 7b3679;
    airplane|aeroplane a36501 0004fa; bus ff834d e69f00; train fe1cff 4d7366; truck ce99ff c7d2db; boat bc6bab e6b6a0;
    traffic light ceba03 754efe; fire hydrant fe2813 7250d0; stop sign df120f 86264c; parking meter be4890 d08112;
    bench db71d9 46306b; bird 754efe 89864f; cat b6a000 e6e508; dog 8d9bfe d2e4ff; horse e25301 8066ff;
    sheep 724fa1 884405; cow a93651 820420; elephant 739a7f fef36d; bear fe00d2 9f8a8e; zebra 514062 8473cf;
    giraffe a748be 6d134d; backpack fdacfe 705160; umbrella fd767a 6b7182; handbag d0d182 71acff; tie 00c184 5a0d7e;
    suitcase fe1585 015472; frisbee 8103e1 7e7d6a; skis 5e48d1 0000dc; snowboard fd87fd ccd8fb;
    sports ball fec325 ea87fe; kite 9928ff 9e80c2; baseball bat 6374b8 d49201; baseball glove 01869c aea4ac;
    skateboard fe5cf7 8e98bc; surfboard ce0065 ae39b5; tennis racket 85b6ff 7d5374; bottle ddd836 9f8afb;
    wine glass d900d8 649aa4; cup 00edf4 b5a491; fork 90477f 847d87; knife d14b65 812761; spoon 06a5ff acb8dc;
    bowl 0a8d5a 1b65a4; banana f8f738 e9b20b; apple be0c04 0965bb; sandwich e56c99 84789d; orange fd9609 cb944e;
    broccoli 00ba2c 9aa36e; carrot e1881c f5a174; hot dog 818114 3d369e; pizza c2039e dae2df; donut 00d8c4 faf71b;
    cake 00d3fd ce94d4; chair 00b8b1 0035bb; couch|sofa 00de8f 6a025d; potted plant 00610a 0acc5f; bed 8be0b3 409aea;
    dining table a600d6 b8bdfc; toilet c30dfe 5a2e7b; tv|tv monitor|television receiver 018ad1 f8f396;
    laptop 0069bf 9179fe; mouse 07f5af c274e1; remote 8860d5 5394d1; keyboard 8e85cc 876fe5; cell phone ff516f 364b60;
    microwave 6a87ff 6a282e; oven 029d95 d3bacb; toaster cd8fc8 bfcafe; sink a004af 906937; refrigerator d256ff a94853;
    book 006fff dfbdb7; clock 01a2c7 2b5c8a; vase 00a76b daca79; scissors beb5fe 8258e1; teddy bear 5a69e2 aa9991;
    hair drier 017659 3403ad; toothbrush 0140fe 4a4991; banner a25fff 0000c7; blanket 81c1a5 253ecc;
    bridge e5979c 996201; cardboard eab19d 957d0a; counter c9aa5d d6cb95; curtain aa1d76 4136fe; door 7e38ba f5dc5b;
    floor wood 8a816b fcefba; flower b74a01 6cadce; fruit ffafcc f89b50; gravel 677488 2f4032; house b56a70 996f4c;
    light 611bfd 3f3b89; mirror d352be a3cde7; net f4ceff 612d06; pillow fe50be 5231e4; platform b4b2ca 402b3b;
    playingfield 85ca0e dad40b; railroad b2a090 764d46; river 6eafc9 2e6686; road 565964 484848; roof 875354 c6ada2;
    sand f8e394 e4c451; sea 05baf5 386f92; shelf e89775 985e6f; snow e4f9ff ebfdf9; stairs bb7645 5b532d;
    tent c47cff 4744ab; towel 028bfe 8277b8; wall brick cc807e ecdfc3; wall stone ffcbb5 895833;
    wall tile e7e5c9 f0e4a9; wall wood a58a3d e3cdc1; water 006a85 062e8f; window blind 4b5b92 b331a0;
    window a2eee5 ebe687; tree|vegetation 009803 009e73; fence 7d6100 793803; ceiling dfc7c4 e6d87e; sky 89d5ff 56b4e9;
    cabinet 92541a bc8848; table 716853 daae8b; floor efb674 6f634c; pavement|sidewalk 9396a6 b3b4bb;
    mountain 664a2d b48176; grass|terrain 7cee53 00ca75; dirt 9b6651 905705; paper c3dfff 6f69ce; food b36bd7 efcf5e;
    building bd8b60 dbd8a4; rock 824221 591d01; wall bdb693 f2efd1; rug 9769a0 c9f7fe; pole 777591 2d03e2;
    traffic sign ffea07 f0e442; rider|bicyclist 9400d3 3a04a7; windowpane e208ff faf71b; earth 9e7c36 6e3002;
    plant 007301 87d621; painting fe95c8 8b7dac; field 47bd0d b0e2c5; armchair 12ebfe 8e778d; seat 909019 6fc5eb;
    desk df6092 ece4b3; wardrobe b901d4 c893c2; lamp 6244d3 b22475; bathtub 00d3fd 5a9a95; railing da5502 f0946c;
    cushion ff5a1b 9a3462; base f5b199 d3989f; box c2039e 7290d6; column fe757c c797da; signboard d90175 595154;
    chest of drawers 00f1d2 4f4493; skyscraper 954c4d a1795b; fireplace 9d99fc 5fd5af; grandstand a8604c 864107;
    path acb1c7 24344a; runway 465248 452a37; case fda5fe b2b2d4; pool table ff008e 75cefd; screen door ff9f08 d3f8e7;
    stairway b89f92 c1983b; bookcase a040d5 f5e325; blind c9d186 a06766; coffee table a988cb 8566fc;
    hill 8f936b 875b04; countertop b9014b f5f2b3; stove 0161d6 457485; palm 355902 79bc59;
    kitchen island 3d9268 a164e4; computer 8103e1 66bdfe; swivel chair df7606 5a51d4; bar b3e7fc f4b90a;
    arcade machine 008351 fd9c67; hovel 886466 a9845a; tower c97e7f d4a592; chandelier ff02df 0000bd;
    awning ff4b71 878cc2; streetlight|street light ac44a7 e7d601; booth fd87fd 4568c5; dirt track 947c70 4c2721;
    apparel fec325 87dafe; land 92cb06 99ba33; bannister 7f77c8 ad753c; escalator e0afd5 3410a6; ottoman ae55fe 97e3f4;
    buffet 026f5a 6661dc; poster 5e8d9f c50f8a; stage 6eac8c c477e5; van 7666fd e2e497; ship d905d4 ec8102;
    fountain 0275b8 1465ad; conveyer belt cbcdfe 7e5d35; canopy 767a3b 672613; washer fd76b7 4336a0;
    plaything a7a704 684be9; swimming pool 00838f 3d7ddd; stool 8f4585 3c78a2; barrel 06a5ff c2e9dc;
    basket fd0f0e df120f; waterfall 0b5fa7 01a0fd; bag fe5cf7 f5f669; minibike ce9301 9c1449; cradle fdc6fd 8c76ff;
    ball 00d4c3 00626e; step a106fe 521d79; tank a6d0ce 603960; trade name 524ffc 554b38; pot 77b1ff 710248;
    animal b94678 ce7890; lake 4e7097 185cbe; dishwasher d18ec1 dc7401; screen 546dd7 c39161; sculpture 0140fe 71acff;
    hood 00f6a4 774d70; sconce 04c480 c528a4; tray 997bff e76578; ashcan|trash can ba1c0e 01679b; fan 875abc 5883cb;
    pier 9ff0d5 2504ce; crt screen 6c5282 a60336; plate 8642fe 8394ad; monitor db0508 5a3d75;
    bulletin board 7392d3 afecff; shower fed4ba f1e77d; radiator 5657ae 92aea9; glass b6b5fe b39e88;
    flag d95259 5373c8; ground animal 884829 867155; curb 91aa9c 756462; guard rail cdd1a8 6aa3ff;
    barrier eab9ac 7f5e3b; bike lane 61796c 402b3b; crosswalk plain a6c4c1 b9c7be; curb cut 716275 413b54;
    parking c6b6c6 dddbfc; pedestrian area 4b533f a4a4c1; rail track 9e7c36 775505; service lane 8c756a 5a6b84;
    tunnel dea96c eea170; motorcyclist fe4b92 faf71b; other rider 6d4ab7 f1f69a; lane marking crosswalk efe1d9 e0edf6;
    lane marking general d7d0dd e2ded5; bike rack 04f3c6 8bc0ff; billboard cb0bff 6a2b1e; catch basin b89f92 b9c1e0;
    cctv camera 01bfff e1e37d; junction box 006fff 4f7da4; mailbox 0095e6 747cfd; manhole a5a9be 6c5265;
    phone booth 00ca82 6e83cb; pothole 5e6651 677c84; traffic sign frame ab7d88 708cf0; utility pole 598f9b 025195;
    traffic sign back b40c6c 2321ff; traffic sign front 02a676 7c96ca; caravan 868dff 059e9b; on rails a25f46 591d01;
    other vehicle ff19fc 6c71d9; trailer fdb0ff d38b10; wheeled slow 4b2fff 2b4cb7; car mount 8f9079 5c523c;
    ego vehicle 504a5d 9ca896; sign ffea07 f0e442; disc d5041b d55e00; square fde543 f0e442; diamond 7d00d7 0072b2;
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
