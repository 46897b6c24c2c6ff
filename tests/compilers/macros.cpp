// Macros of C, POSIX, X11 and Windows headers are defined before heed is included. Compiled with each header of heed in
// HEADER, and with the umbrella.
#include <algorithm>
#include <complex.h>
#include <termios.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <fenv.h>
#include <limits.h>
#include <math.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

// <complex.h> of C has it; a C++ standard library may hide it.
#undef I
#define I _Complex_I

// <windows.h> and what it includes.
#define near
#define far
#define NEAR near
#define FAR far
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define small char
#define hyper __int64
#define interface struct
#define cdecl
#define pascal
#define PASCAL
#define CALLBACK
#define STRICT 1
#define ERROR 0
#define NO_ERROR 0
#define IGNORE 0
#define INFINITE 0xffffffff
#define RELATIVE 2
#define ABSOLUTE 1
#define DELETE 0x00010000
#define DIFFERENCE 11
#define TRUE 1
#define FALSE 0
#define THIS void
#define PURE = 0
#define TEXT(text) L##text
#define DOMAIN 1
#define SING 2
#define OVERFLOW 3
#define UNDERFLOW 4
#define TLOSS 5
#define PLOSS 6
#define GetMessage GetMessageW
#define GetObject GetObjectW
#define SendMessage SendMessageW
#define CopyFile CopyFileW
#define MoveFile MoveFileW
#define DeleteFile DeleteFileW
#define ReplaceText ReplaceTextW
#define Yield()
#define GetCurrentTime() GetTickCount()
#if defined(WITH_MIN_AND_MAX)
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#endif

// <X11/X.h> and what <X11/Xlib.h> adds, but for Status, which heed refuses by name, and Success, which Eigen does.
#define None 0L
#define Always 2
#define Above 0
#define Below 1
#define Bool int
#define True 1
#define False 0
#define Complex 0
#define Convex 2
#define Unsorted 0
#define Opposite 4
#define ParentRelative 1L
#define CopyFromParent 0L
#define KeyPress 2
#define FocusIn 9
#define CursorShape 0
#define DestroyAll 0
#define GrayScale 1

#include HEADER

#if defined(WITH_MIN_AND_MAX) && (!defined(min) || !defined(max))
#error "heed took away a macro of its user"
#endif

const char* version() { return heed::version_string(); }
