# Toolchain of a win32-x64 build on another host with MinGW-w64:
#   apt-get install g++-mingw-w64-x86-64-posix
# The addon links the C++ runtime and imports NODE.EXE by name, as there is no delay-load hook without MSVC: it loads in
# node.exe, not in programs that embed Node under another name. Released binaries come from MSVC.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_DLLTOOL x86_64-w64-mingw32-dlltool)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
