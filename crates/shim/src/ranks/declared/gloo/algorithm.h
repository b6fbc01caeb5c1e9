// libtorch's wheel holds Gloo but not its headers. These declarations are what ProcessGroupGloo.hpp needs to compile;
// none of their members decides the layout of a class that we make.
#pragma once
